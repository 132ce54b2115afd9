"""What a loop nest moves through the caches, without running it: working sets of its loops, and the traffic that follows from them.

    for a in 4: for b in 8: for c in 64: y[a, b] += x[b, c] * w[a, c]

    footprint of x from loop b on: 8 * 64 elements; working set of loop b: those, 64 of w and 8 of y
    traffic into a cache that holds the working set of loop b: x and y as often as `a` moves them, or once where it does not

Everything is a column, one row a point, or a number that all points share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import Any

import numpy as np

from schedules.loopnest import Column, Loop, LoopNest, Number, Operand

LINE = 64  # bytes that move together
PAGE = 4096


def product(numbers: Sequence[Number]) -> Number:
    return reduce(mul, numbers, 1.0)


def as_column(number: Number) -> Any:
    return np.asarray(number, np.float64)


@dataclass(frozen=True)
class Reuse:
    """Of each level, the loops from that one inwards: bytes of each operand, rounded to cache lines, and how often that level is entered.

    Level 0 is the whole nest, the last one a single iteration of the innermost loop.
    """

    footprints: Sequence[Sequence[Column]]  # [level][operand]
    pages: Sequence[Column]  # [level], of all operands
    entered: Sequence[Column]  # [level]
    moving: Sequence[Sequence[Column]]  # [loop][operand], whether the loop moves it at all

    def working_set(self, level: int) -> Column:
        return sum(self.footprints[level], np.zeros(()))

    def traffic(self, capacity: float) -> list[Column]:
        """Bytes of each operand that enter a cache of `capacity`.

        The cache holds the largest level that fits. What the loop around that one does not move stays; what it moves is read
        anew, less what overlaps from one iteration to the next.
        """
        fits = [self.working_set(level) <= capacity for level in range(len(self.footprints))]
        result = []
        for operand in range(len(self.footprints[0])):
            entering = self.footprints[0][operand]
            chosen, found = entering, fits[0]
            for level in range(1, len(self.footprints)):
                around = level - 1
                entering = np.where(self.moving[around][operand], self.footprints[around][operand] * self.entered[around], entering)
                chosen = np.where(found, chosen, entering)
                found = found | fits[level]
            result.append(chosen)
        return result


def reuse(nest: LoopNest) -> Reuse:
    extents = [as_column(loop.extent) for loop in nest.loops]
    whole = [spans(operand, nest.loops, extents, 0) for operand in nest.operands]
    levels = range(len(nest.loops) + 1)
    shapes = [[spans(operand, nest.loops, extents, level) for operand in nest.operands] for level in levels]
    footprints = [
        [lines(operand, shape, full) * LINE for operand, shape, full in zip(nest.operands, row, whole, strict=True)] for row in shapes
    ]
    pages = [sum((runs(operand, shape, full)[1] for operand, shape, full in zip(nest.operands, row, whole, strict=True)), np.zeros(()))
             for row in shapes]  # fmt: skip
    entered = [as_column(product(extents[:level])) for level in levels]
    moving = [
        [np.asarray(any(loop.name in index for index in operand.dims)) & (extent > 1) for operand in nest.operands]
        for loop, extent in zip(nest.loops, extents, strict=True)
    ]
    return Reuse(footprints, pages, entered, moving)


def spans(operand: Operand, loops: Sequence[Loop], extents: Sequence[Column], level: int) -> list[Column]:
    """How many different places of each index the loops from `level` on touch: all from first to last, or fewer where steps skip some."""
    result = []
    for index in operand.dims:
        reach: Column = np.ones(())
        places: Column = np.ones(())
        for loop, extent in zip(loops[level:], extents[level:], strict=True):
            step = index.get(loop.name)
            if step is not None:
                reach = reach + np.abs(as_column(step)) * (extent - 1)
                places = places * extent
        result.append(np.minimum(reach, places))
    return result or [np.ones(())]


def lines(operand: Operand, shape: Sequence[Column], whole: Sequence[Column]) -> Column:
    """Cache lines that hold a box of `shape` out of an array of shape `whole`, whose last index is contiguous."""
    run, count = contiguous(shape, whole)
    return np.asarray(np.maximum(run * operand.item_bytes / LINE, 1) * count)


def runs(operand: Operand, shape: Sequence[Column], whole: Sequence[Column]) -> tuple[Column, Column]:
    """Lengths in bytes of the runs of a box, and the pages that they touch: never more than the box's, or the array's, bytes ask for."""
    run, count = contiguous(shape, whole)
    everything = as_column(product(whole)) * operand.item_bytes
    return run, np.minimum(np.maximum(run * operand.item_bytes / PAGE, 1) * count, np.maximum(everything / PAGE, 1))


def contiguous(shape: Sequence[Column], whole: Sequence[Column]) -> tuple[Column, Column]:
    """Elements in one run of memory, and how many runs there are."""
    run, count = np.ones(()), np.ones(())
    unbroken = np.asarray(True)
    for size, full in zip(reversed(shape), reversed(whole), strict=True):
        run = np.where(unbroken, run * size, run)
        count = np.where(unbroken, count, count * size)
        unbroken = unbroken & (size >= full)
    return run, count
