"""The last line of an SVDF layer: results kept over time, weighted and summed.

quantize(add(sum(multiply(dequantize(state [b, u, m]), dequantize(weights [u, m])), -1), dequantize(bias)))
    ->   y = requantize(bias + sum of (state - zero) * weights) + y_zero,     int32 sums
"""

import numpy as np
import tvm
from tvm import relax, te, tirx

from relay_passes.integers.fixed_point import clamp, one_multiplier
from relay_passes.integers.intrinsics import requantize
from relay_passes.integers.island import Operand, Quantization, operand
from relay_passes.integers.programs import Programs, placeholder
from relay_passes.rewrite import Graph, Rule, array, constant, op_name, rewrites, shape


def weighted_memory_rule(programs: Programs) -> Rule:
    @rewrites("relax.quantize")
    def lower_weighted_memory(call: relax.Call, graph: Graph) -> relax.Expr | None:
        scale, zero = array(call.args[1]), array(call.args[2])
        total = graph.source(call.args[0])
        bias = None
        if op_name(total) == "relax.add":
            bias, total = operand(total.args[1], graph), graph.source(total.args[0])
            if bias is None or bias.array is None or bias.array.dtype != np.int32:
                return None
        if scale is None or zero is None or scale.size != 1 or op_name(total) != "relax.sum" or last_axis(total) is False:
            return None
        product = graph.source(total.args[0])
        if op_name(product) != "relax.multiply":
            return None
        state, weights = (operand(item, graph) for item in product.args)
        if state is None or weights is None or weights.array is None or not (state.uniform and weights.uniform) or weights.one_zero:
            return None
        output = Quantization(scale, zero.astype("int32"), 0, str(call.attrs.out_dtype))
        return emit(state, weights, bias, output, programs) if output.dtype == "int8" and len(shape(state.value)) == 3 else None

    return lower_weighted_memory


def last_axis(call: relax.Call) -> bool:
    axes = call.attrs.axis
    return axes is not None and [int(axis) % len(shape(call.args[0])) for axis in axes] == [len(shape(call.args[0])) - 1]


def emit(state: Operand, weights: Operand, bias: Operand | None, output: Quantization, programs: Programs) -> tvm.relax.Expr:
    rows, units, steps = shape(state.value)
    factor = one_multiplier(state.one_scale * weights.one_scale / output.one_scale)
    start = np.zeros(units, "int32") if bias is None or bias.array is None else bias.array.reshape(units)
    memory, given = placeholder(state.value, "state"), te.placeholder((units, steps), str(weights.dtype), name="weights")
    biases, k = te.placeholder((units,), "int32", name="bias"), te.reduce_axis((0, steps), "k")

    def product(row: tirx.Var, unit: tirx.Var) -> tirx.Expr:
        return te.sum((memory[row, unit, k].astype("int32") - state.one_zero) * given[unit, k].astype("int32"), axis=k)

    acc = te.compute((rows, units), product, name="acc")

    def result(row: tirx.Var, unit: tirx.Var) -> tirx.Expr:
        scaled = requantize(acc[row, unit] + biases[unit], *factor) + output.one_zero
        return clamp(scaled, -128, 127).astype("int8")

    tensors = [memory, given, biases, te.compute((rows, units), result, name="weighted_memory")]
    array_of_weights = np.ascontiguousarray(weights.array).reshape(units, steps)
    return programs.call("weighted_memory", tensors, [state.value, constant(array_of_weights), constant(start)])
