"""Every quantised operator as an integer program.

    quantize(relu(add(conv2d(dequantize(x), dequantize(w)), dequantize(b))))   ->   call_tir(conv2d, (x, w, bias, multiplier, shift))
    quantize(reshape(dequantize(x))), one scale and zero point                 ->   reshape(x)
    quantize(dequantize(x)), one scale and zero point                          ->   x

What has no lowering stays as it is, computed in floats between its quantize and dequantize, and is named in the module's attribute
`stack.float_islands`: one "operator -> result" an entry.
"""

from collections.abc import Callable
from typing import Any

import tvm
from tvm import relax

from relay_passes.integers import (
    arithmetic,
    batch_matmul,
    channels_last,
    concatenation,
    convolution,
    curves,
    move_dequantize,
    pooling,
    prelu,
    reduction,
    requantize,
    resize,
    signed,
    softmax,
    squared_difference,
    transposed_convolution,
)
from relay_passes.integers.comparison import comparison_rule
from relay_passes.integers.island import Island, Quantization, match, operand
from relay_passes.integers.programs import Programs
from relay_passes.integers.tables import table_rule
from relay_passes.integers.weighted_memory import weighted_memory_rule
from relay_passes.rewrite import MAX_WALKS, Graph, Rule, Walk, array, dtype, op_name, rewrites, table_of, variables

Lowering = Callable[[Island], relax.Expr | None]

FLOAT_ISLANDS = "stack.float_islands"

LOWERINGS: dict[str, Lowering] = {
    **convolution.LOWERINGS,
    **transposed_convolution.LOWERINGS,
    **batch_matmul.LOWERINGS,
    **pooling.LOWERINGS,
    **reduction.LOWERINGS,
    **arithmetic.LOWERINGS,
    **softmax.LOWERINGS,
    **curves.LOWERINGS,
    **prelu.LOWERINGS,
    **resize.LOWERINGS,
    **concatenation.LOWERINGS,
    **requantize.LOWERINGS,
}


def island_rule(programs: Programs) -> Rule:
    @rewrites("relax.quantize", "relax.astype")
    def lower_island(call: relax.Call, graph: Graph) -> relax.Expr | None:
        island = match(call, graph, programs)
        lowering = LOWERINGS.get(op_name(island.call)) if island else None
        return lowering(island) if island and lowering else None

    return lower_island


def border_rule(programs: Programs) -> Rule:
    """The dequantize and quantize that are left: at the edge of a network, and around operators that stay in floats."""

    @rewrites("relax.quantize", "relax.dequantize")
    def lower_border(call: relax.Call, graph: Graph) -> relax.Expr | None:
        if op_name(call) == "relax.dequantize":
            x = operand(call, graph)
            return requantize.to_floats(x, programs) if x and x.uniform and x.array is None else None
        scale, zero = array(call.args[1]), array(call.args[2])
        if scale is None or zero is None or scale.size != 1 or zero.size != 1 or dtype(call.args[0]) != "float32":
            return None
        return requantize.to_integers(call.args[0], Quantization(scale, zero, 0, str(call.attrs.out_dtype)), programs)

    return lower_border


def settle(function: relax.Function, module: tvm.IRModule, stages: list[list[Rule]]) -> relax.Function:
    """`function` after walks over each stage in turn, until none of them changes it."""
    tables = [table_of(rules) for rules in stages]
    for _ in range(MAX_WALKS):
        before = function
        for table in tables:
            function = Walk(Graph(module, function), table).run(function)
        if function is before:
            return function
    raise AssertionError("lower_integers does not come to rest")


def float_islands(function: relax.Function) -> list[str]:
    """The operators between a dequantize and a quantize, with the names of what they compute."""
    graph = Graph(None, function)
    found = []
    inside: set[relax.Var] = set()
    for binding in function.body.blocks[0].bindings:
        graph.made[binding.var] = binding.value
        name = op_name(binding.value)
        if name == "relax.dequantize":
            inside.add(binding.var)
        elif name not in ("", "relax.quantize") and any(var in inside for var in variables(binding.value)):
            inside.add(binding.var)
            found.append(f"{name.removeprefix('relax.')} -> {binding.var.name}")
    return found


@tvm.transform.module_pass(opt_level=0, name="lower_integers")
def lower_integers(module: tvm.IRModule, _context: Any) -> tvm.IRModule:
    programs = Programs(module)
    islands: list[str] = []
    for variable, function in module.functions_items():
        if not isinstance(function, relax.Function):
            continue
        function = settle(function, module, [signed.RULES, channels_last.RULES])
        longer = (prelu.prelu_rule, squared_difference.squared_difference_rule, table_rule, weighted_memory_rule, comparison_rule)
        islands_first = [make(programs) for make in (island_rule, *longer)]
        function = settle(function, module, [islands_first, move_dequantize.RULES])
        islands += float_islands(function)
        function = settle(function, module, [[border_rule(programs)]])
        programs.builder.update_func(variable, function)
    result = programs.builder.get()
    return result.with_attr(FLOAT_ISLANDS, islands)
