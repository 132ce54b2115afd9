"""Bilinear interpolation of NHWC images of one scale before and after, with positions in 1/1024 of a pixel.

    y = round((top left * (1024 - dy) * (1024 - dx) + ... ) / 2^20), ties away from zero

The positions, and the two rows and columns that each lies between, are constants computed here.
"""

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.fixed_point import Array
from relay_passes.integers.island import Island
from relay_passes.integers.programs import placeholder
from relay_passes.rewrite import constant, shape

UNIT = 1 << 10


def truncate(numerator: Array, divisor: int) -> Array:
    """A division towards zero, as C has it."""
    return np.sign(numerator) * (np.abs(numerator) // divisor)


def positions(size: int, out_size: int, mode: str) -> Array:
    """For each place of the result: the pixel before, the pixel behind, the way from the first in 1/1024; int32 [3, out_size]."""
    if mode == "align_corners" and out_size > 1:
        step = (UNIT * (size - 1) + (out_size - 1) // 2) // (out_size - 1)
    else:
        step = (UNIT * size + out_size // 2) // out_size
    at = np.arange(out_size, dtype="int64") * step
    if mode == "half_pixel":
        at += step // 2 - UNIT // 2
    before = np.maximum(truncate(at, UNIT), 0)
    behind = np.minimum(truncate(at + UNIT - 1, UNIT), size - 1)
    return np.stack([before, behind, at - UNIT * before]).astype("int32")


def bilinear(island: Island) -> relax.Expr | None:
    x, attrs = island.inputs[0], island.call.attrs
    mode = str(attrs.coordinate_transformation_mode)
    known = str(attrs.method) == "linear" and str(attrs.layout) == "NHWC" and mode in ("align_corners", "half_pixel", "asymmetric")
    if not known or x.dtype != "int8" or not x.same(island.output) or island.activated:
        return None
    _, height, width, _ = shape(x.value)
    tables = [positions(size, out, mode) for size, out in zip((height, width), island.shape[1:3], strict=True)]
    data = placeholder(x.value, "x")
    rows, columns = (te.placeholder(table.shape, "int32", name=name) for table, name in zip(tables, ("rows", "columns"), strict=True))

    def result(n: tirx.Var, h: tirx.Var, v: tirx.Var, c: tirx.Var) -> tirx.Expr:
        total = tirx.const(0, "int32")
        for row, down in ((rows[0, h], UNIT - rows[2, h]), (rows[1, h], rows[2, h])):
            for column, right in ((columns[0, v], UNIT - columns[2, v]), (columns[1, v], columns[2, v])):
                total = total + data[n, row, column, c].astype("int32") * down * right  # below 2^7 * 2^20
        half = tirx.Select(total > 0, tirx.const(1 << 19, "int32"), tirx.const(-(1 << 19), "int32"))
        return tirx.truncdiv(total + half, tirx.const(1 << 20, "int32")).astype("int8")

    tensors = [data, rows, columns, te.compute(island.shape, result, name="resize_bilinear")]
    return island.programs.call("resize_bilinear", tensors, [x.value, *[constant(table) for table in tables]])


LOWERINGS = {"relax.image.resize2d": bilinear}
