"""How far the output of a convolution may lie over its input, when a kernel walks from the first pixel to the last.

Tile by tile it reads all that `pixels` outputs need, then writes these. What it writes must lie below what later tiles read: d bytes below
x, y is `filters` bytes a pixel long, and the first byte of x that a tile reads is that of its windows.
"""

import numpy as np

from schedules.integer import Convolution


def row_major(op: Convolution, pixels: int, reads_first: bool = True, again: bool = False) -> int:
    """The least d with which y may begin d bytes below x.

    `reads_first`: a tile has read everything before it writes anything; `again`: the last tile, to be as large as the others, goes back and
    computes some outputs once more.
    """
    top, left = op.pad[0], op.pad[1]
    rows = np.arange(op.out_height) * op.strides[0] - top
    columns = np.arange(op.out_width) * op.strides[1] - left
    row, column = np.maximum(rows, 0), np.maximum(columns, 0)
    image = (row[:, None] * op.width + column) * op.channels
    first = (np.arange(op.batch)[:, None, None] * (op.height * op.width * op.channels) + image).reshape(-1)
    needed = np.minimum.accumulate(first[::-1])[::-1]  # from this pixel on
    starts = np.arange(0, op.pixels, pixels)
    if again:
        starts = np.minimum(starts, op.pixels - pixels)
    ends = np.minimum(starts + pixels, op.pixels) * op.filters  # what is written by then
    distance = [ends[:-1] - needed[starts[1:]]]
    if not reads_first:
        distance.append(ends - needed[starts])
    least = -op.batch * op.height * op.width * op.channels
    return max(least, *(int(part.max()) for part in distance if part.size), least)
