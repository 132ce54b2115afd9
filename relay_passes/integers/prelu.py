"""Rectifiers with a slope below zero: a tensor of slopes, one number a channel as a rule, or one number for all, over int16.

    quantize(where(x >= 0, x, x * slope))   ->   x >= 0: requantize(x),     x < 0: requantize(x * slope)

with both zero points taken off, and a factor for each side.
"""

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.arithmetic import broadcast
from relay_passes.integers.fixed_point import clamp, one_multiplier
from relay_passes.integers.intrinsics import requantize
from relay_passes.integers.island import Island, Operand, Quantization, operand
from relay_passes.integers.programs import Programs, placeholder
from relay_passes.rewrite import Graph, Rule, array, number, op_name, rewrites, shape


def rectified(call: relax.Expr, graph: Graph) -> tuple[Operand, Operand] | None:
    """x and slope of where(x >= 0, x, x * slope)."""
    if op_name(call) != "relax.where":
        return None
    test, kept, below = graph.source(call.args[0]), call.args[1], graph.source(call.args[2])
    if op_name(test) != "relax.greater_equal" or op_name(below) != "relax.multiply" or number(test.args[1]) != 0:
        return None
    found = [operand(item, graph) for item in (test.args[0], kept, *below.args)]
    x, slope = found[0], found[3]
    if x is None or slope is None or not (x.uniform and slope.uniform and x.dtype == slope.dtype == "int8"):
        return None
    alike = all(item is not None and item.same(x) and item.value.same_as(x.value) for item in found[1:3])
    return (x, slope) if alike else None


def prelu_rule(programs: Programs) -> Rule:
    @rewrites("relax.quantize")
    def prelu(call: relax.Call, graph: Graph) -> relax.Expr | None:
        parts = rectified(graph.source(call.args[0]), graph)
        scale, zero = array(call.args[1]), array(call.args[2])
        if parts is None or scale is None or zero is None or scale.size != 1 or zero.size != 1 or str(call.attrs.out_dtype) != "int8":
            return None
        x, slope = parts
        ratio = np.float64(x.one_scale) / np.float64(scale.flat[0])
        above = one_multiplier(float(ratio))
        below = one_multiplier(float(np.float64(x.one_scale) * np.float64(slope.one_scale) / np.float64(scale.flat[0])))
        data, slopes = placeholder(x.value, "x"), placeholder(slope.value, "slope")

        def result(*index: tirx.Var) -> tirx.Expr:
            value = data[index].astype("int32") - x.one_zero
            product = value * (broadcast(slopes, index).astype("int32") - slope.one_zero)
            scaled = tirx.Select(value >= 0, requantize(value, *above), requantize(product, *below))
            return clamp(scaled + int(zero.flat[0]), -128, 127).astype("int8")

        tensors = [data, slopes, te.compute(shape(call), result, name="prelu")]
        return programs.call("prelu", tensors, [x.value, slope.value])

    return prelu


def leaky(island: Island) -> relax.Expr | None:
    """leakyrelu(dequantize(x)) of int16; int8 has a table."""
    (x,) = island.inputs
    if not island.uniform or x.dtype != "int16" or island.output.dtype != "int16" or x.array is not None:
        return None
    above, below, sign = leaky_factors(x, island.output, float(island.call.attrs.alpha))
    data = placeholder(x.value, "x")

    def result(*index: tirx.Var) -> tirx.Expr:
        value = data[index].astype("int32") - x.one_zero
        scaled = tirx.Select(value >= 0, requantize(value, *above), sign * requantize(value, *below))
        return clamp(scaled + island.output.one_zero, island.low, island.high).astype("int16")

    return island.programs.call("leaky_relu", [data, te.compute(island.shape, result, name="leaky_relu")], [x.value])


def leaky_factors(x: Quantization, y: Quantization, slope: float) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Multiplier and shift from 0 up and below 0, and the sign of what is below."""
    ratio = x.one_scale / y.one_scale
    return one_multiplier(ratio), one_multiplier(x.one_scale * abs(slope) / y.one_scale), -1 if slope < 0 else 1


LOWERINGS = {"relax.nn.leakyrelu": leaky}
