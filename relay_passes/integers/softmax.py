"""Softmax along the last axis of int8, to int8 or int16, out of a table of exponentials.

    e[d] = exp(scale * d) for d = x - max(x) in -255 ... 0, Q0.31, zero where TFLite leaves the term out
    y = round(2^bits * e[d] / sum of e) + the least y, with the sum in Q12.19 and its reciprocal by Newton's method

TFLite computes each exponential twice an element; all values that it can take make a table of a kilobyte, computed here once.
"""

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.fixed_point import Array, clamp, exp_of_negative, one_multiplier, requantize
from relay_passes.integers.intrinsics import divide_by_power, high_mul, reciprocal
from relay_passes.integers.island import Island
from relay_passes.integers.programs import placeholder
from relay_passes.rewrite import constant

DIFFERENCE_BITS = 5  # integer bits of a difference, Q5.26
SUM_BITS = 12  # integer bits of the sum, Q12.19


def exponentials(scale: float) -> Array:
    """exp(scale * (d - 255)) for d in 0 ... 255 as Q0.31, int32 [256]."""
    factor = min(scale * (1 << (31 - DIFFERENCE_BITS)), float((1 << 31) - 1))
    multiplier, shift = one_multiplier(factor)
    least = -int(np.floor(((1 << DIFFERENCE_BITS) - 1) * (1 << (31 - DIFFERENCE_BITS)) / (1 << shift)))
    difference = np.arange(-255, 1, dtype="int32")
    kept = difference >= least
    scaled = requantize(np.where(kept, difference, 0).astype("int32"), multiplier, shift)
    return np.where(kept, exp_of_negative(scaled), 0).astype("int32")


def softmax(island: Island) -> relax.Expr | None:
    (x,) = island.inputs
    rank = len(island.shape)
    output = island.output
    if output.dtype not in ("int8", "int16") or not output.uniform:
        return None
    info = np.iinfo(output.dtype)
    near = 0.0 if output.dtype == "int8" else 1e-3  # converters write 1 / 65535 for int16, which TFLite computes as 1 / 65536
    standard = x.dtype == "int8" and output.one_zero == info.min and abs(output.one_scale * 2**info.bits - 1) <= near
    if not standard or not x.uniform or int(island.call.attrs.axis) % rank != rank - 1:
        return None
    return softmax_program(island, x.value, x.one_scale)


def softmax_program(island: Island, value: relax.Expr, scale: float) -> relax.Expr:
    x, table = placeholder(value, "x"), te.placeholder((256,), "int32", name="exponentials")
    info = np.iinfo(island.output.dtype)
    rows, depth = island.shape[:-1], island.shape[-1]
    along, again = te.reduce_axis((0, depth), "k"), te.reduce_axis((0, depth), "k")

    def exponential(row: tuple[tirx.Expr, ...], k: tirx.Expr) -> tirx.Expr:
        return table[x[(*row, k)].astype("int32") - top[row].astype("int32") + 255]

    def result(*index: tirx.Var) -> tirx.Expr:
        row = index[:-1]
        leading = tirx.clz(total[row])
        exponent = SUM_BITS - leading + (31 - info.bits)
        share = divide_by_power(high_mul(inverse[row], exponential(row, index[-1])), exponent)
        return clamp(share + int(info.min), int(info.min), int(info.max)).astype(island.output.dtype)

    def part(*row: tirx.Var) -> tirx.Expr:
        return te.sum(divide_by_power(exponential(row, again), SUM_BITS), axis=again)

    top = te.compute(rows, lambda *row: te.max(x[(*row, along)], axis=along), name="largest")
    total = te.compute(rows, part, name="sum")
    inverse = te.compute(rows, lambda *row: reciprocal((total[row] << tirx.clz(total[row])) & ((1 << 31) - 1)), name="reciprocal")
    return island.programs.call(
        "softmax", [x, table, te.compute(island.shape, result, name="softmax")], [value, constant(exponentials(scale))]
    )


LOWERINGS = {"relax.nn.softmax": softmax}
