"""Blocks of an image moved into its channels or its batch, and back: reshapes around a transpose, on integers as they are stored.

    SPACE_TO_DEPTH     [n, h*b, w*b, c]   ->   [n, h, w, b*b*c]          DEPTH_TO_SPACE      the way back
    SPACE_TO_BATCH_ND  [n, h*b, w*d, c]   ->   [b*d*n, h, w, c]          BATCH_TO_SPACE_ND   the way back

The last two pad before, and crop after.
"""

import numpy as np
from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused
from stack.frontends.tflite.operators.convolution import expect_rank
from stack.frontends.tflite.operators.slicing import cut


def moved(c: Conversion, data: relax.Expr, inner: list[int], order: list[int], outer: list[int]) -> relax.Expr:
    return relax.op.reshape(c.emit(relax.op.permute_dims(c.emit(relax.op.reshape(data, inner)), order)), outer)


def block_size(c: Conversion) -> int:
    size: int = c.option("block_size")
    if not 0 < size < 1 << 15:
        raise Refused(f"its block size {size} must be positive")
    return size


def space_to_depth(c: Conversion) -> relax.Expr:
    expect_rank(c, 4)
    (images, height, width, channels), size = c.shape(0), block_size(c)
    if height % size or width % size:
        raise Refused(f"blocks of {size} do not divide {height} x {width}")
    rows, columns = height // size, width // size
    return moved(
        c, c.stored(0), [images, rows, size, columns, size, channels], [0, 1, 3, 2, 4, 5], [images, rows, columns, size * size * channels]
    )


def depth_to_space(c: Conversion) -> relax.Expr:
    expect_rank(c, 4)
    (images, height, width, channels), size = c.shape(0), block_size(c)
    if channels % (size * size):
        raise Refused(f"blocks of {size} x {size} do not divide {channels} channels")
    left = channels // (size * size)
    return moved(c, c.stored(0), [images, height, width, size, size, left], [0, 1, 3, 2, 4, 5], [images, height * size, width * size, left])


def block_options(c: Conversion) -> tuple[list[int], list[tuple[int, int]]]:
    """The blocks, and what is padded or cropped before and behind each of their dimensions."""
    blocks, edges = c.numbers(1), c.value(2)
    rank = len(c.shape(0))
    sound = 0 < len(blocks) < rank and edges.shape == (len(blocks), 2)
    if not sound or min(blocks) < 1 or max(blocks) > 1 << 15 or (edges < 0).any() or (edges > 1 << 24).any():
        raise Refused(f"its blocks {blocks} and borders {edges.tolist()} do not fit its input of shape {list(c.shape(0))}")
    return blocks, [(int(before), int(after)) for before, after in edges]


def space_to_batch(c: Conversion) -> relax.Expr:
    blocks, pads = block_options(c)
    count, affine = len(blocks), c.affine(0)
    images, *spatial = c.shape(0)[: count + 1]
    rest = list(c.shape(0)[count + 1 :])
    padded = [extent + before + after for extent, (before, after) in zip(spatial, pads, strict=True)]
    if any(extent % block for extent, block in zip(padded, blocks, strict=True)):
        raise Refused(f"blocks of {blocks} do not divide {padded}")
    flat = [0, 0, *(width for pair in pads for width in pair), *[0, 0] * len(rest)]
    fill = 0.0 if affine is None else float(affine.zero_point[0])
    data = c.emit(relax.op.nn.pad(c.stored(0), flat, "constant", fill)) if any(flat) else c.stored(0)
    outer = [extent // block for extent, block in zip(padded, blocks, strict=True)]
    pairs = [item for pair in zip(outer, blocks, strict=True) for item in pair]
    inner_axes, outer_axes = [2 + 2 * i for i in range(count)], [1 + 2 * i for i in range(count)]
    order = [*inner_axes, 0, *outer_axes, *range(2 * count + 1, 2 * count + 1 + len(rest))]
    return moved(c, data, [images, *pairs, *rest], order, [images * int(np.prod(blocks)), *outer, *rest])


def batch_to_space(c: Conversion) -> relax.Expr:
    blocks, crops = block_options(c)
    count = len(blocks)
    images, *spatial = c.shape(0)[: count + 1]
    rest = list(c.shape(0)[count + 1 :])
    left, over = divmod(images, int(np.prod(blocks)))
    full = [extent * block for extent, block in zip(spatial, blocks, strict=True)]
    if over or any(before + after > extent for extent, (before, after) in zip(full, crops, strict=True)):
        raise Refused(f"its blocks {blocks} and borders {crops} do not fit its input of shape {list(c.shape(0))}")
    order = [count]
    for i in range(count):
        order += [count + 1 + i, i]
    order += range(2 * count + 1, 2 * count + 1 + len(rest))
    data = c.emit(moved(c, c.stored(0), [*blocks, left, *spatial, *rest], order, [left, *full, *rest]))
    cuts = {axis + 1: slice(before, full[axis] - after) for axis, (before, after) in enumerate(crops) if before or after}
    return cut(c, data, cuts)


STORED: dict[str, Converter] = {
    "BATCH_TO_SPACE_ND": batch_to_space,
    "DEPTH_TO_SPACE": depth_to_space,
    "SPACE_TO_BATCH_ND": space_to_batch,
    "SPACE_TO_DEPTH": space_to_depth,
}
