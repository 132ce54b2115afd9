"""Division by a known number ahead of rounding, as a product and a fused multiply-add that lead to the same whole numbers.

    rint(x / scale)   =   rint(fma(x, high, x * low))        high + low = 1 / scale, to twice the digits of float32

A vector division takes as long as thirty products. Both sides grow with x, so they are the same for every x if they are where each of
them steps from one whole number to the next: near scale * (k + 1/2). That is checked here, and the rare scale that fails is divided by.
"""

import numpy as np

from relay_passes.bytes.fused import fused

STEPS = np.arange(-512, 512)  # more than bytes hold, moved by any zero point
AROUND = np.arange(-8, 9)  # float32 numbers on either side of a step
Array = np.ndarray


def factors(scale: np.float32) -> tuple[np.float32, np.float32] | None:
    """`high` and `low`, the latter 0 where the product with `high` is enough; None where a division has to stay.

    Neither is negative, so that both sides grow with x, and infinite x stays infinite."""
    scale = np.float32(scale)
    if not 2.0**-60 < scale < 2.0**60:  # far from numbers without all their digits
        return None
    inverse = 1.0 / np.float64(scale)
    high = np.float32(inverse)
    if high > inverse:
        high = np.nextafter(high, np.float32(0))
    low = np.float32(inverse - np.float64(high))
    if low == 0:  # a power of two, whose product is the quotient
        return high, low
    steps = ((STEPS + 0.5) * np.float64(scale)).astype("float32")
    x = (steps.view("int32")[:, None] + np.where(steps < 0, -1, 1)[:, None] * AROUND).astype("int32").view("float32")
    exact = np.rint(x / scale)
    same = np.array_equal(np.rint(fused(x, high, x * low)), exact)
    stepped = np.array_equal(exact[:, 0], STEPS) and np.array_equal(exact[:, -1], STEPS + 1)
    return (high, low) if same and stepped else None
