"""A function of one int8 tensor, element by element, as a table of its 256 results.

    quantize(sigmoid(dequantize(x)))                              ->   table[x + 128]
    quantize(x' * clip(x' + 3, 0, 6) / 6), x' = dequantize(x)     ->   table[x + 128]

Sigmoid, tanh, leaky relu, hard swish and abs are what TFLite Micro's integer kernels compute, to the last bit; any other function is
computed in float32 and rounded, as TFLite Micro does where it uses tables itself. A table costs 256 bytes of flash.
"""

from collections.abc import Callable

import numpy as np
from tvm import relax, te, tirx

from relay_passes.elementwise import BINARY, UNARY
from relay_passes.fold_constants import TABLE
from relay_passes.integers import fixed_point as fixed
from relay_passes.integers.fixed_point import Array, one_multiplier, quantize_multiplier, round_away
from relay_passes.integers.island import Operand, Quantization, operand
from relay_passes.integers.prelu import leaky_factors
from relay_passes.integers.programs import Programs, placeholder
from relay_passes.rewrite import Graph, Rule, array, constant, is_tensor, number, op_name, rewrites, shape

Q4 = 4  # integer bits of the argument of sigmoid and tanh
CHOICES = frozenset({"relax.where"})


class Curve:
    """What a quantize reads, followed back to the one tensor of integers that it depends on, and its 256 values."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.leaf: Operand | None = None

    def values(self, expr: relax.Expr) -> Array | None:
        """float32 [256], or a number; None where `expr` is something else than a function of one tensor."""
        known = array(expr)
        if known is not None:
            return known.reshape(()) if known.size == 1 else None
        call = self.graph.source(expr)
        name = op_name(call)
        if name == "relax.dequantize":
            return self.begin(expr)
        if name not in UNARY | BINARY | CHOICES or name not in TABLE:
            return None
        found = [self.values(argument) for argument in call.args if isinstance(argument.ty, relax.TensorType)]
        values = [value for value in found if value is not None]
        return TABLE[name](call, values) if len(values) == len(found) else None

    def begin(self, expr: relax.Expr) -> Array | None:
        leaf = operand(expr, self.graph)
        if leaf is None or not leaf.uniform or leaf.dtype != "int8" or leaf.array is not None:
            return None
        if self.leaf is not None and not self.leaf.value.same_as(leaf.value):
            return None
        self.leaf = leaf
        return (np.arange(-128, 128) - leaf.one_zero).astype("float32") * np.float32(leaf.one_scale)


def in_q4(x: Operand, exact: Callable[[Array], Array], over: tuple[int, int]) -> Array:
    """`exact` of the argument as Q4.27; beyond what that holds the results are `over`."""
    multiplier, shift = one_multiplier(x.one_scale * (1 << (31 - Q4)))
    radius = int(np.floor(((1 << Q4) - 1) * (1 << (31 - Q4)) / 2.0**shift))
    centred = np.arange(-128, 128, dtype="int32") - np.int32(x.one_zero)
    inside = np.where(np.abs(centred) < radius, centred, 0).astype("int32")
    result = exact(fixed.requantize(inside, multiplier, shift))
    return np.where(centred <= -radius, over[0], np.where(centred >= radius, over[1], result))


def sigmoid(x: Operand, output: Quantization) -> Array | None:
    if (output.one_scale, output.one_zero) != (1 / 256, -128):
        return None

    def exact(q: Array) -> Array:
        positive = fixed.reciprocal(fixed.exp_of_negative(-np.abs(q), Q4))
        whole = np.where(q == 0, 1 << 30, np.where(q > 0, positive, fixed.MOST - positive)).astype("int32")
        return fixed.divide_by_power(whole, 31 - 8) - 128

    return in_q4(x, exact, (-128, 127))


def tanh(x: Operand, output: Quantization) -> Array | None:
    if (output.one_scale, output.one_zero) != (1 / 128, 0):
        return None

    def exact(q: Array) -> Array:
        below = fixed.one_minus_over_one_plus(fixed.exp_of_negative(-np.abs(q), Q4 + 1))  # twice the argument: one integer bit more
        whole = np.where(q == 0, 0, np.where(q < 0, -below, below)).astype("int32")
        return fixed.divide_by_power(whole, 31 - 7)

    return in_q4(x, exact, (-128, 127))


def leaky_relu(x: Operand, output: Quantization, slope: float) -> Array:
    over_zero, under_zero, sign = leaky_factors(x, output, slope)
    centred = np.arange(-128, 128, dtype="int32") - np.int32(x.one_zero)
    above, below = fixed.requantize(centred, *over_zero), sign * fixed.requantize(centred, *under_zero)
    return np.where(centred >= 0, above, below) + output.one_zero


def absolute(x: Operand, output: Quantization) -> Array:
    distance = np.abs(np.arange(-128, 128, dtype="int32") - np.int32(x.one_zero)).astype("int32")
    if x.one_scale == output.one_scale:
        return distance + output.one_zero
    return fixed.requantize(distance, *one_multiplier(x.one_scale / output.one_scale)) + output.one_zero


def short_multiplier(real: float) -> tuple[int, int]:
    """A factor as a 16-bit multiplier and an exponent."""
    multiplier, exponent = quantize_multiplier(real)
    return int(fixed.half_multiplier(multiplier)), int(exponent)


def saturate(x: Array) -> Array:
    return np.clip(x, -(1 << 15), (1 << 15) - 1)


def high_mul_16(a: Array, b: Array | int) -> Array:
    """round(a * b / 2^15) of Q0.15 numbers, ties away from zero."""
    product = a * b
    return saturate(np.trunc((product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))) / (1 << 15)).astype("int64"))


def hard_swish(x: Operand, output: Quantization) -> Array | None:
    """In 16 bits: x scaled to the result, times (x / 3 + 1) / 2 held to 0 ... 1."""
    fine = x.one_scale / 128
    scale, exponent = short_multiplier(fine / output.one_scale)
    gate, gate_exponent = short_multiplier(fine / (3 / 32768))
    if exponent > 0:
        return None  # TFLite Micro refuses it
    shifted = (np.arange(-128, 128, dtype="int64") - x.one_zero) * (1 << 7)
    reluish = shifted
    if gate_exponent > 0:
        reluish = saturate(reluish << (gate_exponent - 1))
    reluish = high_mul_16(reluish, gate)
    if gate_exponent > 0:
        reluish = saturate(reluish << 1)
    if gate_exponent < 0:
        reluish = fixed.divide_by_power(reluish.astype("int32"), -gate_exponent).astype("int64")
    reluish = (reluish + (1 << 15)) >> 1
    product = np.trunc(reluish * high_mul_16(shifted, scale) / (1 << 15)).astype("int32")  # towards zero, which cancels a bias
    return fixed.divide_by_power(product, -exponent) + output.one_zero


def is_hard_swish(call: relax.Expr, graph: Graph) -> bool:
    """(x * clip(x + 3, 0, 6)) * (1 / 6)"""
    if op_name(call) != "relax.multiply" or (sixth := number(call.args[1])) is None or not np.isclose(sixth, 1 / 6):
        return False
    product = graph.source(call.args[0])
    if op_name(product) != "relax.multiply":
        return False
    gate = graph.source(product.args[1])
    if op_name(gate) != "relax.clip" or (float(gate.args[1].value), float(gate.args[2].value)) != (0.0, 6.0):
        return False
    moved = graph.source(gate.args[0])
    return op_name(moved) == "relax.add" and number(moved.args[1]) == 3.0 and moved.args[0].same_as(product.args[0])


def exact_table(call: relax.Expr, x: Operand, output: Quantization, graph: Graph) -> Array | None:
    """What TFLite Micro's integer kernel computes, where it has one for this function."""
    alone = isinstance(call, relax.Call) and op_name(graph.source(call.args[0])) == "relax.dequantize"
    name = op_name(call)
    if name == "relax.sigmoid" and alone:
        return sigmoid(x, output)
    if name == "relax.tanh" and alone:
        return tanh(x, output)
    if name == "relax.nn.leakyrelu" and alone:
        return leaky_relu(x, output, float(call.attrs.alpha))
    if name == "relax.abs" and alone:
        return absolute(x, output)
    return hard_swish(x, output) if is_hard_swish(call, graph) else None


def table_rule(programs: Programs) -> Rule:
    @rewrites("relax.quantize")
    def lower_table(call: relax.Call, graph: Graph) -> relax.Expr | None:
        scale, zero = array(call.args[1]), array(call.args[2])
        if scale is None or zero is None or scale.size != 1 or zero.size != 1 or not is_tensor(call):
            return None
        output = Quantization(scale, zero.astype("int32"), 0, str(call.attrs.out_dtype))
        curve = Curve(graph)
        values = curve.values(call.args[0])
        x = curve.leaf
        if output.dtype != "int8" or values is None or x is None or values.shape != (256,) or shape(x.value) != shape(call):
            return None
        table = exact_table(graph.source(call.args[0]), x, output, graph)
        if table is None:
            whole = round_away(values.astype("float32") * (np.float32(1) / np.float32(output.one_scale)))
            table = np.nan_to_num(whole, posinf=1e9, neginf=-1e9) + output.one_zero
        return lookup(x.value, np.clip(table, -128, 127).astype("int8"), programs)

    return lower_table


def lookup(value: relax.Expr, table: Array, programs: Programs) -> relax.Expr:
    x, results = placeholder(value, "x"), te.placeholder((256,), "int8", name="table")

    def result(*index: tirx.Var) -> tirx.Expr:
        return results[x[index].astype("int32") + 128]

    return programs.call("table", [x, results, te.compute(x.shape, result, name="table")], [value, constant(table)])
