"""Requantisation in two instructions: the same steps from other numbers.

    y = zero + round(round(acc * multiplier / 2^31) / 2^e), no less than zero

is a staircase: y reaches each value at one sum, `T`. Only those at sums that a filter can reach matter, at most 255, and what lies on a
line with slack can be put on a line of other numbers. So that a shift by a register falls away, we look for `gain` and `offset` with

    y = (acc' * gain / 2^32 rounded + offset) >> 7        acc' = 2^scale * sum of x * w + start

for every sum: the weights take up what the common shift by 7 leaves. `start` and `offset` together move the line by less than a sum: they
are chosen among 2^16 places, and `gain` is good to 2^-22 where the narrowest line of 255 steps leaves 2^-16, so that there is a choice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from schedules.space import Array, CannotPack

SHIFT = 7
MOST = 8  # of scale: a weight of -128 still fits in 16 bits
STARTS = np.arange(1 << 16, dtype=np.int64)


@dataclass(frozen=True)
class Line:
    """acc' = (sum of x * w << scale) + start;  y = saturate((gain * acc' rounded >> 32) + offset >> SHIFT)."""

    scale: int
    start: int
    gain: int
    offset: int


def steps(least: int, most: int, multiplier: int, right: int, zero: int, low: int, high: int) -> tuple[int, list[int]]:
    """The output at the sum `least`, and how far above it lie the sums, up to `most`, where y is one more."""
    at = []
    value = low
    for y in range(low + 1, high + 1):
        rounded = ((y - zero) << right) - (1 << (right - 1))
        first = -(((1 << 30) - (rounded << 31)) // multiplier) if multiplier else most + 1
        if first > most:
            break
        if first <= least:
            value = y
        else:
            at.append(first - least)
    return value, at


@lru_cache(maxsize=1 << 13)  # a layer's filters are packed once for each trial of a fusion, and for the library
def fit(bias: int, below: int, above: int, multiplier: int, shift: int, zero: int, low: int, high: int) -> Line:
    """The line for a filter whose products sum to `below` at least and to `above` at most; zero <= low, shift < 0.

    CannotPack where none is found, as for one wide filter in ten thousand.
    """
    value, at = steps(bias + below, bias + above, multiplier, -shift, zero, low, high)
    if not at:
        return Line(0, 0, 0, value << SHIFT)
    reached = (value + 1 + np.arange(len(at), dtype=np.int64)) << (32 + SHIFT)
    sums = np.array(at, np.int64)
    # at these sums the line must have come to these heights, and at those not yet
    up, under = (sums, reached), (sums - 1, reached)
    if value > low:
        up = np.append(0, sums), np.append(value << (32 + SHIFT), reached)
    if value + len(at) < high:
        under = np.append(sums - 1, above - below), np.append(reached, (value + len(at) + 1) << (32 + SHIFT))
    for scale in range(max(0, SHIFT + 1 + shift), MOST + 1):
        for gain in gains(scale, multiplier, SHIFT + 1 + shift - scale, up, under):
            least = int((up[1] - (up[0] << scale) * gain).max())
            most = int((under[1] - (under[0] << scale) * gain).min())
            moved = least - (1 << 31) - STARTS * gain
            offsets = -(-moved >> 32)
            good = np.flatnonzero((offsets << 32) - moved < most - least)
            if good.size:
                start = int(good[0])
                return Line(scale, start - (below << scale), gain, int(offsets[start]))
    raise CannotPack(f"no line through the steps of {bias=} {below=} {above=} {multiplier=} {shift=}")


def gains(scale: int, multiplier: int, exponent: int, up: tuple[Array, Array], under: tuple[Array, Array]) -> Iterator[int]:
    """Slopes to try: the multiplier itself times a power of two, then the middle of those that come between all steps."""
    nearest = (multiplier + ((1 << -exponent) >> 1)) >> -exponent
    yield from (gain for gain in (nearest, nearest + 1) if 0 < gain < 1 << 31)
    run = (up[0][:, None] - under[0]).astype(np.float64) * (1 << scale)
    rise = (up[1][:, None] - under[1]).astype(np.float64)
    steepest = (rise[run < 0] / run[run < 0]).min(initial=2**31 - 1)
    flattest = (rise[run > 0] / run[run > 0]).max(initial=1)
    yield int((steepest + flattest) / 2)
