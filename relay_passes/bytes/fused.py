"""The fused multiply-add of float32 in numpy, which has none: for what is computed when a model is compiled."""

import numpy as np

Array = np.ndarray


def fused(a: Array, b: np.float32, c: Array | np.float32) -> Array:
    """a * b + c of finite float32, rounded once: to odd in float64, which leaves the nearest float32 (Boldo and Melquiond 2008)."""
    product = np.asarray(a, "float64") * np.float64(b)  # exact
    other = np.asarray(c, "float64")
    total = np.asarray(product + other)
    back = total - product
    error = (product - (total - back)) + (other - back)
    even = (total.view("int64") & 1) == 0
    toward = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    result: Array = np.where((error != 0) & even, toward, total).astype("float32")
    return result
