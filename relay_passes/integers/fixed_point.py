"""Fixed-point arithmetic as TFLite Micro and gemmlowp define it: two roundings, ties away from zero.

The same functions compute on numpy arrays (multipliers and tables, at compile time) and on TensorIR expressions (what `intrinsics` means
by its operators), since both know `astype`, `*`, `+`, `>>` and `&`. Values are int32; a Qm.n number has m integer bits, n bits of fraction
and a sign.

    requantize(x, multiplier, shift) = round(round(x * 2^left * multiplier / 2^31) / 2^right)
"""

from typing import Any

import numpy as np
from tvm import te, tirx

Array = np.ndarray[Any, np.dtype[Any]]
Value = Any  # a numpy array or a TE expression, int32

LEAST, MOST = -(1 << 31), (1 << 31) - 1


def quantize_multiplier(real: Array | float) -> tuple[Array, Array]:
    """Real factors, float64, as (multiplier, shift) with real = multiplier / 2^31 * 2^shift and a multiplier from 2^30 up; int32 both."""
    significand, shift = np.frexp(np.asarray(real, "float64"))
    multiplier = np.floor(significand * (1 << 31) + 0.5).astype("int64")
    full = multiplier == 1 << 31
    multiplier, shift = np.where(full, 1 << 30, multiplier), np.where(full, shift + 1, shift)
    gone = shift < -31  # nothing is left after that many shifts
    return np.where(gone, 0, multiplier).astype("int32"), np.where(gone, 0, shift).astype("int32")


def one_multiplier(real: float) -> tuple[int, int]:
    """`quantize_multiplier` of one number."""
    multiplier, shift = quantize_multiplier(real)
    return int(multiplier), int(shift)


def round_away(real: Array | float) -> Array:
    """The nearest whole numbers, ties away from zero, as `std::round` does."""
    wide = np.asarray(real, "float64")
    return np.trunc(wide + np.copysign(0.5, wide))


def quantize_value(real: float, scale: float, zero_point: int) -> int:
    """`real` as an integer of that scale, computed in float32 as TFLite does for the limits of an activation."""
    return zero_point + int(round_away(float(np.float32(real) / np.float32(scale))))


def clamp(x: Value, low: int, high: int) -> Value:
    if isinstance(x, np.ndarray):
        return np.clip(x, low, high)
    kind = x.dtype if hasattr(x, "dtype") else x.ty.dtype
    return te.max(te.min(x, tirx.const(high, kind)), tirx.const(low, kind))


def high_mul(a: Value, b: Value) -> Value:
    """round(a * b / 2^31), the product of Q0.31 numbers; not both may be the least int32. `b` may be a Python number."""
    wide = b if isinstance(b, int) else b.astype("int64")
    return ((a.astype("int64") * wide + (1 << 30)) >> 31).astype("int32")


def divide_by_power(x: Value, exponent: Value | int) -> Value:
    """round(x / 2^exponent)."""
    if isinstance(exponent, int) and exponent == 0:
        return x
    mask = (1 << exponent) - 1 if isinstance(exponent, int) else (tirx.const(1, "int32") << exponent) - 1
    return (x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0).astype("int32")).astype("int32")


def multiply_by_power(x: Value, exponent: int) -> Value:
    """x * 2^exponent, saturated."""
    return clamp(x.astype("int64") << exponent, LEAST, MOST).astype("int32")


def requantize(x: Value, multiplier: Value | int, shift: Value | int) -> Value:
    """x * multiplier / 2^31 * 2^shift: TFLite's MultiplyByQuantizedMultiplier."""
    if isinstance(shift, int):
        return divide_by_power(high_mul(x * (1 << shift) if shift > 0 else x, multiplier), max(-shift, 0))
    zero = tirx.const(0, "int32")
    shifted = x * (tirx.const(1, "int32") << te.max(shift, zero))
    return divide_by_power(high_mul(shifted, multiplier), te.max(zero - shift, zero))


def half_multiplier(multiplier: Array) -> Array:
    """The upper 16 bits of multipliers, rounded."""
    wide = np.asarray(multiplier, "int64")
    return np.where(wide >= 0x7FFF0000, 0x7FFF, (wide + (1 << 15)) >> 16).astype("int32")


def requantize_wide(x: Value, multiplier: Value, shift: Value) -> Value:
    """x * multiplier / 2^shift for x in int64 and a multiplier of 16 bits, rounded once: TFLite's MultiplyByQuantizedMultiplier there."""
    bits = shift.astype("int64")
    return ((x * multiplier.astype("int64") + (tirx.const(1, "int64") << (bits - 1))) >> bits).astype("int32")


def exp_of_negative(x: Array, integer_bits: int = 5) -> Array:
    """exp(x) as Q0.31 for x <= 0 with at most five integer bits: a polynomial on [-1/4, 0), times a constant for each bit of the rest."""
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    below = (x & (quarter - 1)) - quarter
    rest = below - x
    result = exp_near_zero(multiply_by_power(below, integer_bits))
    for bit, factor in enumerate(np.floor(np.exp(-(2.0 ** np.arange(-2, integer_bits))) * (1 << 31) + 0.5).astype("int64")):
        taken = rest & (1 << (fraction_bits - 2 + bit))
        result = np.where(taken != 0, high_mul(result, int(factor)), result)
    return np.where(x == 0, MOST, result).astype("int32")


def exp_near_zero(x: Array) -> Array:
    """exp(x) for x in [-1/4, 0), Q0.31: four terms of the Taylor series around -1/8."""
    middle = int(np.exp(-1 / 8) * (1 << 31) + 0.5)
    third = int((1 << 31) / 3 + 0.5)
    x = x + (1 << 28)
    square = high_mul(x, x)
    cube, fourth = high_mul(square, x), high_mul(square, square)
    tail = divide_by_power(high_mul(divide_by_power(fourth, 2) + cube, third) + square, 1)
    return middle + high_mul(x + tail, middle)


def half_reciprocal(x: Value) -> Value:
    """2 / (1 + x) as Q2.29 for x in [0, 1), Q0.31: three Newton steps from Goldschmidt's line 48/17 - 32/17 d."""
    half = ((x.astype("int64") + (MOST + 1)) >> 1).astype("int32")  # of the denominator, rounded; one is 2^31 - 1 here
    result = high_mul(half, -1010580540) + 1515870810
    for _ in range(3):
        missing = (1 << 29) - high_mul(half, result)
        result = result + multiply_by_power(high_mul(result, missing), 2)
    return result


def reciprocal(x: Value) -> Value:
    """1 / (1 + x) as Q0.31 for x in [0, 1), Q0.31."""
    return multiply_by_power(half_reciprocal(x), 1)


def one_minus_over_one_plus(x: Value) -> Value:
    """(1 - x) / (1 + x) as Q0.31 for x in [0, 1), Q0.31."""
    return multiply_by_power(half_reciprocal(x) - (1 << 29), 2)
