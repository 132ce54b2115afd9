"""Images in another size. The nearest pixel is a gather at positions that are known; bilinear interpolation stays one operator.

RESIZE_NEAREST_NEIGHBOR   ->   take along the rows, take along the columns, on integers as they are stored
RESIZE_BILINEAR           ->   image.resize2d NHWC
"""

import numpy as np
from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused
from stack.frontends.tflite.graph import Array
from stack.frontends.tflite.operators.convolution import expect_rank

LARGEST = 1 << 16


def new_size(c: Conversion) -> tuple[int, int]:
    expect_rank(c, 4)
    size = c.numbers(1)
    if len(size) != 2 or min(size) < 1 or max(size) > LARGEST or min(c.shape(0)) < 1:
        raise Refused(f"{size} is no size of an image")
    return size[0], size[1]


def nearest_positions(old: int, new: int, align_corners: bool, half_pixel_centers: bool) -> Array:
    """In float32, as TFLite computes them; halves are rounded away from zero."""
    scale = np.float32(old - 1) / np.float32(new - 1) if align_corners and new > 1 else np.float32(old) / np.float32(new)
    places = (np.arange(new, dtype=np.float32) + np.float32(0.5 if half_pixel_centers else 0)) * scale
    positions = np.floor(places + np.float32(0.5)) if align_corners else np.floor(places)
    return np.clip(positions, 0, old - 1).astype(np.int64)


def nearest(c: Conversion) -> relax.Expr:
    data = c.stored(0)
    for axis, new in zip((1, 2), new_size(c), strict=True):
        positions = nearest_positions(c.shape(0)[axis], new, c.option("align_corners"), c.option("half_pixel_centers"))
        if positions.tolist() != list(range(c.shape(0)[axis])):
            data = c.emit(relax.op.take(data, c.const(positions, "int64"), axis))
    return data


def bilinear(c: Conversion) -> relax.Expr:
    align, half = c.option("align_corners"), c.option("half_pixel_centers")
    mode = "align_corners" if align else "half_pixel" if half else "asymmetric"
    return relax.op.image.resize2d(
        c.real(0), new_size(c), layout="NHWC", method="linear", coordinate_transformation_mode=mode, rounding_method=""
    )


REAL: dict[str, Converter] = {"RESIZE_BILINEAR": bilinear}
STORED: dict[str, Converter] = {"RESIZE_NEAREST_NEIGHBOR": nearest}
