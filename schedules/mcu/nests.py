"""The loops of kernels in C for the cost model, and about how many instructions their authors expect of them.

    for each tile of pixels: for each group of filters: for k in steps:     pixels x filters x `products` of one instruction, in registers
        y += x * w

Without caches instructions are what counts: most are those of the steps, the rest copies windows, runs loops and requantises.
"""

import numpy as np

from schedules.integer import Convolution, Depthwise
from schedules.loopnest import Loop, LoopNest, Number, Operand, dim

LOOP = 3  # instructions of a loop around its body
RESCALE = 9  # of one output, requantised and stored


def convolution(
    op: Convolution, reduction: int, pixels: int, filters: int, products: int, instructions: Number, scratch: int, outside: bool = False
) -> LoopNest:
    """Of a kernel that holds `pixels` x `filters` sums and adds `products` to each at a time; filters may be `outside` pixels."""
    row, column, depth = dim(tile=pixels, pixel=1), dim(group=filters, filter=1), dim(k=products, lane=1)
    outer = (Loop("tile", -(-op.pixels // pixels)), Loop("group", -(-op.filters // filters)))
    return LoopNest(
        loops=(
            *(outer[::-1] if outside else outer),
            Loop("k", -(-reduction // products), reduces=True),
            Loop("pixel", pixels, "unrolled"),
            Loop("filter", filters, "unrolled"),
            Loop("lane", products, "vector", reduces=True),
        ),
        operands=(
            Operand("x", 1, "read", (row, depth)),
            Operand("w", 1, "read", (column, depth)),
            Operand("y", 1, "accumulate", (row, column)),
        ),
        steps=op.pixels * op.filters * reduction,
        numbers={"instructions": instructions, "scratch": scratch},
    )


def depthwise(op: Depthwise, rows: Number, columns: Number, products: int, instructions: Number, scratch: Number) -> LoopNest:
    """Of a kernel that computes bands of `rows` rows, `columns` neighbours at a time, channel by channel."""
    taps = op.kernel_h * op.kernel_w
    down = dim(band=rows * op.strides[0], row=op.strides[0], k=1.0 / op.kernel_w)
    across = dim(block=columns * op.strides[1], column=op.strides[1], k=1)
    channel = dim(channel=1)
    return LoopNest(
        loops=(
            Loop("channel", op.filters),
            Loop("band", np.ceil(op.batch * op.out_height / np.asarray(rows))),
            Loop("row", rows),
            Loop("block", np.ceil(op.out_width / np.asarray(columns))),
            Loop("k", -(-taps // products), reduces=True),
            Loop("column", columns, "unrolled"),
            Loop("lane", products, "vector", reduces=True),
        ),
        operands=(
            Operand("x", 1, "read", (down, across, channel)),
            Operand("w", 1, "read", (channel, dim(k=products, lane=1))),
            Operand("y", 1, "accumulate", (dim(band=rows, row=1), dim(block=columns, column=1), channel)),
        ),
        steps=op.pixels * op.filters * taps,
        numbers={"instructions": instructions, "scratch": scratch},
    )


def tiles(pixels: Number, filters: Number, count: tuple[int, int], reduction: int, item_bytes: int, unroll: Number = 1) -> LoopNest:
    """Of loops in C over floats or integers: `count` pixels and filters in tiles of `pixels` x `filters`."""
    rows, columns = count
    row, column = dim(tile=pixels, pixel=1), dim(group=filters, filter=1)
    return LoopNest(
        loops=(
            Loop("tile", rows / np.asarray(pixels)),
            Loop("group", columns / np.asarray(filters)),
            Loop("k", reduction, reduces=True),
            Loop("pixel", pixels, "unrolled"),
            Loop("filter", filters, "unrolled"),
        ),
        operands=(
            Operand("x", item_bytes, "read", (row, dim(k=1))),
            Operand("w", item_bytes, "read", (column, dim(k=1))),
            Operand("y", item_bytes, "accumulate", (row, column)),
        ),
        steps=rows * columns * reduction,
        numbers={"unroll": unroll},
    )
