"""A sum of two rescaled int8 numbers in two multiplications, where that gives the same result for all pairs.

    y = clip(requantize(requantize((a - zero_a) << 20) + requantize((b - zero_b) << 20)) + zero)
      = clip((a * m + b * n + k) >> shift)

Three requantisations round six times, but all to about 20 bits of fraction except the last, so that the steps of y are mostly those of
a plane. All 65,536 pairs are tried; where no plane close by has the same steps, the program stays as TFLite writes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from relay_passes.integers.fixed_point import Array

INT8 = np.arange(-128, 128, dtype=np.int64)
SHIFTS = 3  # how many are tried, the largest first: the more bits, the closer
NEARBY = 2  # how far factors may be from the nearest


@dataclass(frozen=True)
class Plane:
    """y = clip((a * m + b * n + k) >> shift), every part of it within int32."""

    m: int
    n: int
    k: int
    shift: int


def same_plane(table: Array, slopes: tuple[float, float], low: int, high: int) -> Plane | None:
    """The plane with the steps of `table`, int64 [256, 256] over a and b, clipped to low ... high; `slopes` is how it rises, about."""
    steepest = 128 * (abs(slopes[0]) + abs(slopes[1])) + 1
    most = min(31, int(np.floor(np.log2((1 << 31) / steepest))))
    for shift in range(most, max(most - SHIFTS, 0), -1):
        for m, n in factors(slopes, shift):
            heights = INT8[:, None] * m + INT8 * n
            up, under = (table << shift) - heights, ((table + 1) << shift) - heights
            least = int(up.max(initial=-(1 << 40), where=table > low))
            beyond = int(under.min(initial=1 << 40, where=table < high))
            k = min(max((least + beyond) // 2, least), beyond - 1)
            if least < beyond and 128 * (abs(m) + abs(n)) + abs(k) < 1 << 31:
                return Plane(m, n, k, shift)
    return None


def factors(slopes: tuple[float, float], shift: int) -> Iterator[tuple[int, int]]:
    """The nearest pair, then its neighbours."""
    m, n = (round(slope * (1 << shift)) for slope in slopes)
    around = range(-NEARBY, NEARBY + 1)
    for i, j in sorted(((i, j) for i in around for j in around), key=lambda step: abs(step[0]) + abs(step[1])):
        yield m + i, n + j
