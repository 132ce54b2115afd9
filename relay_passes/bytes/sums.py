"""Sums that ONNX Runtime computes over real numbers, although both operands and the result are bytes: ONNX's Sum, unlike its Add.

    quantize(add(dequantize(a), dequantize(b), real_sum))   ->   quantize(add(max(dequantize(a), least), max(dequantize(b), least)))

Both dequantized values are rounded before they are added. `least` is what the smallest byte stands for, so that nothing changes; without
the comparison code generation would multiply and add in one operation, and round once.
"""

import numpy as np
from tvm import relax

from relay_passes.integers.island import Operand, operand
from relay_passes.rewrite import Graph, constant, rewrites

REAL_SUM = "real_sum"  # the attribute by which the importer tells one


def is_real_sum(call: relax.Call) -> bool:
    return call.attrs is not None and REAL_SUM in call.attrs.keys()  # noqa: SIM118  # attributes are no mapping


def rounded(expr: relax.Expr, x: Operand) -> relax.Expr:
    least = np.float32(np.iinfo(x.dtype).min - x.one_zero) * np.float32(x.one_scale)
    return relax.op.maximum(expr, constant(np.asarray(least, "float32")))


@rewrites("relax.add")
def real_sum(call: relax.Call, graph: Graph) -> relax.Expr | None:
    if not is_real_sum(call):
        return None
    a, b = (operand(argument, graph) for argument in call.args)
    if a is None or b is None or not a.uniform or not b.uniform:
        return None
    return relax.op.add(rounded(call.args[0], a), rounded(call.args[1], b))
