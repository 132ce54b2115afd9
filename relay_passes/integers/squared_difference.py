"""The square of the difference of two int8 tensors, with NumPy's broadcasting.

    d = subtract(dequantize(a), dequantize(b))
    quantize(multiply(d, d))                     ->   squared_difference(a, b)

Both are brought to the scale 2 * max(scale1, scale2) with 7 more bits of fraction, so that the square fits in 32 bits, as TFLite Micro
does.
"""

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.arithmetic import broadcast
from relay_passes.integers.fixed_point import clamp, one_multiplier
from relay_passes.integers.intrinsics import requantize
from relay_passes.integers.island import Operand, operand, quantized
from relay_passes.integers.programs import Programs, placeholder
from relay_passes.rewrite import Graph, Rule, op_name, rewrites, shape

MORE_BITS = 7


def operands(square: relax.Expr, graph: Graph) -> tuple[Operand, Operand] | None:
    if op_name(square) != "relax.multiply" or not square.args[0].same_as(square.args[1]):
        return None
    difference = graph.source(square.args[0])
    if op_name(difference) != "relax.subtract":
        return None
    a, b = (operand(argument, graph) for argument in difference.args)
    if a is None or b is None or not (a.uniform and b.uniform) or (a.dtype, b.dtype) != ("int8", "int8"):
        return None
    return a, b


def squared_difference_rule(programs: Programs) -> Rule:
    @rewrites("relax.quantize")
    def squared_difference(call: relax.Call, graph: Graph) -> relax.Expr | None:
        found, parts = quantized(call, graph), operands(graph.source(call.args[0]), graph)
        if found is None or parts is None or found[1].dtype != "int8":
            return None
        output, (a, b) = found[1], parts
        twice = 2 * max(a.one_scale, b.one_scale)
        last = one_multiplier(float(np.float64(twice * twice) / ((1 << 2 * MORE_BITS) * np.float64(output.one_scale))))
        data = [placeholder(item.value, letter) for item, letter in zip(parts, "ab", strict=True)]

        def result(*index: tirx.Var) -> tirx.Expr:
            left, right = (
                requantize(
                    (broadcast(tensor, index).astype("int32") - item.one_zero) * (1 << MORE_BITS), *one_multiplier(item.one_scale / twice)
                )
                for tensor, item in zip(data, parts, strict=True)
            )
            difference = left - right
            return clamp(requantize(difference * difference, *last) + output.one_zero, -128, 127).astype("int8")

        tensors = [*data, te.compute(shape(call), result, name="squared_difference")]
        return programs.call("squared_difference", tensors, [a.value, b.value])

    return squared_difference
