"""Comparisons of two quantised tensors.

    greater(dequantize(a), dequantize(b))   ->   requantize((a - a_zero) * 2^8) > requantize((b - b_zero) * 2^8)

both by their own scale, as TFLite does it; where both mean the same, the integers are compared as they are.
"""

from collections.abc import Callable

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.arithmetic import broadcast
from relay_passes.integers.fixed_point import one_multiplier
from relay_passes.integers.intrinsics import requantize
from relay_passes.integers.island import Operand, operand
from relay_passes.integers.programs import Programs, placeholder
from relay_passes.rewrite import Graph, Rule, op_name, rewrites, shape

MORE_BITS = 8
TESTS: dict[str, Callable[[tirx.Expr, tirx.Expr], tirx.Expr]] = {
    "relax.equal": lambda a, b: tirx.EQ(a, b),
    "relax.greater": lambda a, b: a > b,
    "relax.greater_equal": lambda a, b: a >= b,
    "relax.less": lambda a, b: a < b,
    "relax.less_equal": lambda a, b: a <= b,
    "relax.not_equal": lambda a, b: tirx.NE(a, b),
}


def scaled(x: Operand, value: tirx.Expr) -> tirx.Expr:
    factor = one_multiplier(float(np.float64(x.one_scale)))
    return requantize((value.astype("int32") - x.one_zero) * (1 << MORE_BITS), *factor)


def comparison_rule(programs: Programs) -> Rule:
    @rewrites(*TESTS)
    def compare(call: relax.Call, graph: Graph) -> relax.Expr | None:
        left, right = (operand(argument, graph) for argument in call.args)
        if left is None or right is None or {left.dtype, right.dtype} != {"int8"} or not (left.uniform and right.uniform):
            return None
        if max(left.one_scale, right.one_scale) >= 1:
            return None  # the shift would be to the left, which TFLite refuses
        same, name = left.same(right), op_name(call)
        a, b = placeholder(left.value, "a"), placeholder(right.value, "b")

        def result(*index: tirx.Var) -> tirx.Expr:
            pair = broadcast(a, index), broadcast(b, index)
            return TESTS[name](*pair) if same else TESTS[name](scaled(left, pair[0]), scaled(right, pair[1]))

        word = name.removeprefix("relax.")
        return programs.call(word, [a, b, te.compute(shape(call), result, name=word)], [left.value, right.value])

    return compare
