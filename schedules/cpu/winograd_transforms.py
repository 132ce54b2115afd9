"""The arithmetic of Winograd's 3x3 convolutions F(m x m): m x m results from (m + 2)^2 products instead of 9 m^2.

    U = G w G^T        weights, once, when the model is compiled
    V = B^T d B        each overlapping window d of (m + 2)^2 pixels
    y = A^T (U * V summed over channels) A

They evaluate polynomials at 0, infinity and pairs of points +-p. A pair shares the even and the odd half of its sum, so that one row or
column of six costs twelve multiply-adds. F(4x4) takes +-sqrt(1/2) and +-sqrt(2): as cheap as the usual 1 and 2, with half the error.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.polynomial import polynomial
from tvm import tirx

from schedules.space import Array

PAIRS: dict[int, tuple[float, ...]] = {2: (1.0,), 4: (0.5**0.5, 2**0.5)}  # by m


@cache
def matrices(m: int) -> tuple[Array, Array, Array]:
    """B^T, G and A^T, in float64. Their order of points is 0, +p, -p, +q, -q, infinity."""
    points = [0.0, *(sign * p for p in PAIRS[m] for sign in (1, -1))]
    size = m + 2
    b, g, a = np.zeros((size, size)), np.zeros((size, 3)), np.zeros((m, size))
    for row, point in enumerate(points):
        others = [other for other in points if other != point]
        b[row, :-1] = polynomial.polyfromroots(others)
        g[row] = [point**power / np.prod([point - other for other in others]) for power in range(3)]
        a[:, row] = [point**power for power in range(m)]
    b[-1] = polynomial.polyfromroots(points)
    g[-1, -1] = a[-1, -1] = 1
    return b, g, a


def weights(w: Array, m: int) -> Array:
    """G w G^T over the last two axes, rounded once."""
    _, g, _ = matrices(m)
    return np.einsum("ir,...rs,js->...ij", g, w.astype(np.float64), g, optimize=True).astype(np.float32)


def scaled(factor: float, value: tirx.Expr) -> tirx.Expr:
    return value if factor == 1 else -value if factor == -1 else value * tirx.const(factor, str(value.ty))


def plus(value: tirx.Expr, factor: float, other: tirx.Expr) -> tirx.Expr:
    """value + factor * other: one multiply-add, or an addition."""
    return value - scaled(-factor, other) if factor < 0 else value + scaled(factor, other)


def combined(coefficients: Iterable[float], values: Sequence[tirx.Expr]) -> tirx.Expr:
    """The sum of coefficient * value, those with coefficient 1 first so that the rest are multiply-adds."""
    terms = sorted(((float(c), v) for c, v in zip(coefficients, values, strict=True) if c), key=lambda term: term[0] != 1)
    (first, value), *rest = terms
    total = scaled(first, value)
    for factor, other in rest:
        total = plus(total, factor, other)
    return total


def near_zero_removed(matrix: Array) -> Array:
    """Roots multiplied out leave 1e-17 where there is a zero, and 0.9999999 where there is a one."""
    rounded: Any = np.round(matrix, 12)
    return np.asarray(rounded)


def input_halves(d: Sequence[tirx.Expr], m: int) -> list[tuple[tirx.Expr, tirx.Expr, float]]:
    """For each pair of points: the even half, the odd half, and the factor p of the odd one in B^T d."""
    halves = []
    for p in PAIRS[m]:
        others = near_zero_removed(polynomial.polyfromroots([sign * q for q in PAIRS[m] if q != p for sign in (1, -1)]))
        # x (x + p) (x^2 - q^2): the even powers and p times the odd ones
        even = combined(others[::2], d[2 : m + 1 : 2])
        odd = combined(others[::2], d[1:m:2])
        halves.append((even, odd, p))
    return halves


def input_ends(d: Sequence[tirx.Expr], m: int) -> tuple[tirx.Expr, tirx.Expr]:
    """The values at 0 and at infinity in B^T d."""
    b = near_zero_removed(matrices(m)[0])
    return combined(b[0], d), combined(b[-1], d)


def outputs(y: Sequence[tirx.Expr], sums: Sequence[tirx.Expr], differences: Sequence[tirx.Expr], m: int) -> list[tirx.Expr]:
    """A^T y, given for each pair of points the sum and the difference of its two values."""
    results = []
    for power in range(m):
        factors = [round(p**power, 12) for p in PAIRS[m]]
        total = combined(factors, differences if power % 2 else sums)
        if power == 0:
            total = total + y[0]
        results.append(total + y[-1] if power == m - 1 else total)
    return results
