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
    boxes = [[contiguous(shape, shapes[0]) for shape in shapes] for shapes in (spans(each, nest.loops, extents) for each in nest.operands)]
    sizes = [boxed[0][0] * boxed[0][1] * operand.item_bytes for operand, boxed in zip(nest.operands, boxes, strict=True)]
    footprints, pages = [], []
    for level in range(len(nest.loops) + 1):
        runs = [boxed[level] for boxed in boxes]
        footprints.append([lines(operand, *run) * LINE for operand, run in zip(nest.operands, runs, strict=True)])
        touched = [pages_of(operand, *run, whole) for operand, run, whole in zip(nest.operands, runs, sizes, strict=True)]
        pages.append(sum(touched, np.zeros(())))
    entered = [as_column(product(extents[:level])) for level in range(len(nest.loops) + 1)]
    moving = [
        [np.asarray(any(loop.name in index for index in operand.dims)) & (extent > 1) for operand in nest.operands]
        for loop, extent in zip(nest.loops, extents, strict=True)
    ]
    return Reuse(footprints, pages, entered, moving)


def spans(operand: Operand, loops: Sequence[Loop], extents: Sequence[Column]) -> list[list[Column]]:
    """Of each level, how many different places of each index its loops touch: all from first to last, or fewer where steps skip some."""
    found: list[list[Column]] = []
    for index in operand.dims or ({},):
        reach: Column = np.ones(())
        places: Column = np.ones(())
        levels = [reach]  # from a single iteration outwards
        for loop, extent in zip(reversed(loops), reversed(extents), strict=True):
            step = index.get(loop.name)
            if step is not None:
                reach = reach + np.abs(as_column(step)) * (extent - 1)
                places = places * extent
            levels.append(levels[-1] if step is None else np.minimum(reach, places))
        found.append(levels[::-1])
    return [list(shape) for shape in zip(*found, strict=True)]


def lines(operand: Operand, run: Column, count: Column) -> Column:
    """Cache lines that hold `count` runs of so many elements."""
    return np.asarray(np.maximum(run * operand.item_bytes / LINE, 1) * count)


def pages_of(operand: Operand, run: Column, count: Column, whole: Column) -> Column:
    """Pages that those runs touch: never more than the bytes of the `whole` array ask for."""
    return np.asarray(np.minimum(np.maximum(run * operand.item_bytes / PAGE, 1) * count, np.maximum(whole / PAGE, 1)))


def contiguous(shape: Sequence[Column], whole: Sequence[Column]) -> tuple[Column, Column]:
    """Of a box in an array of shape `whole`, whose last index is contiguous: elements in one run of memory, and how many runs there are."""
    run, count = np.ones(()), np.ones(())
    unbroken = np.asarray(True)
    for size, full in zip(reversed(shape), reversed(whole), strict=True):
        run = np.where(unbroken, run * size, run)
        count = np.where(unbroken, count, count * size)
        unbroken = unbroken & (size >= full)
    return run, count
