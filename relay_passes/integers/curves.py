"""Sigmoid and tanh of int16, between the 256 points of one table.

    a = |x| * 3 * 4096 * scale,     y = table[a >> 9] to its neighbour, in proportion to the bits below, mirrored where x is negative

The table is that of TFLite: the sigmoid of i / 24 as Q0.16, for i in 0 ... 255, raised by half of what a chord of the curve runs below it
at the middle. tanh(x) = 2 sigmoid(2 x) - 1.
"""

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.fixed_point import Array, round_away
from relay_passes.integers.island import Island
from relay_passes.integers.programs import placeholder
from relay_passes.rewrite import constant, op_name

POINTS = 256
LARGEST = POINTS - 1


def sigmoid_table() -> Array:
    exact = 1 / (1 + np.exp(-np.arange(POINTS) / 24))
    bend = exact * (1 - exact) * (1 - 2 * exact)  # the second derivative
    table = round_away(65536 * (exact - bend / 24**2 / 16))
    table[LARGEST] = 65535
    return table.astype("uint16")


def argument_factor(scale: float) -> tuple[int, int]:
    """Multiplier and right shift that bring x to steps of 1 / (3 * 4096)."""
    multiplier, shift = float(scale) * 4096.0 * 3.0, 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        multiplier, shift = multiplier * 2.0, shift + 1
    return int(multiplier), shift


def curve(island: Island) -> relax.Expr | None:
    (x,) = island.inputs
    output = island.output
    known = x.dtype == output.dtype == "int16" and x.uniform and (x.one_zero, output.one_zero, output.one_scale) == (0, 0, 2.0**-15)
    multiplier, shift = argument_factor(x.one_scale) if known else (0, 0)
    if not known or multiplier > 32767:
        return None
    name = op_name(island.call).removeprefix("relax.")
    bits = 9 if name == "sigmoid" else 8  # of the argument between two points
    data, points = placeholder(x.value, "x"), te.placeholder((POINTS,), "uint16", name="points")

    def scaled(*index: tirx.Var) -> tirx.Expr:
        return (data[index].astype("int32") * multiplier + ((1 << shift) >> 1)) >> shift

    argument = te.compute(data.shape, scaled, name="argument")

    def result(*index: tirx.Var) -> tirx.Expr:
        size = te.abs(argument[index])
        place = te.min(size >> bits, tirx.const(LARGEST, "int32"))
        first, second = (points[item].astype("int32") for item in (place, te.min(place + 1, tirx.const(LARGEST, "int32"))))
        between = (first << bits) + (size & ((1 << bits) - 1)) * (second - first)
        negative = argument[index] < 0
        if name == "sigmoid":
            value = tirx.Select(place == LARGEST, tirx.const(0x7FFF << 10, "int32"), between)
            return (tirx.Select(negative, (1 << 25) + 511 - value, value + 512) >> 10).astype("int16")
        value = tirx.Select(place == LARGEST, tirx.const(0xFFFF << 8, "int32"), between)
        return (tirx.Select(negative, (1 << 23) + 127 - value, value - (1 << 23) + 128) >> 8).astype("int16")

    tensors = [data, points, te.compute(data.shape, result, name=name)]
    return island.programs.call(f"{name}_16", tensors, [x.value, constant(sigmoid_table())])


LOWERINGS = {"relax.sigmoid": curve, "relax.tanh": curve}
