"""Numbers that are quantised and read back at once: rounded where they are, where they need never reach memory.

    dequantize(quantize(x, 1, z), s, z)   ->   round(clip(x, -z, 255 - z)) * s

Two layers whose results are added are two programs, and one result goes through memory: the earlier one stays bytes. A dequantize that is
left reads bytes from memory.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx

from relay_passes.bytes.sums import is_rounded_first
from relay_passes.integers.island import quantized
from relay_passes.integers.programs import Programs, placeholder
from relay_passes.rewrite import Graph, Walk, array, constant, dtype, number, op_name, variables

ELEMENTWISE = 0  # TVM's pattern kind
BY_ELEMENT = frozenset(
    f"relax.{name}" for name in ("add", "clip", "divide", "maximum", "minimum", "multiply", "nn.relu", "nn.relu6", "sigmoid", "subtract")
)


def by_element(call: relax.Expr) -> bool:
    return op_name(call) in BY_ELEMENT or is_rounded_first(call)


def reals(call: relax.Expr, graph: Graph) -> relax.Expr | None:
    """What `call` dequantizes, in the same units and as real numbers still; None where it was never real, or has other readers."""
    if op_name(call) != "relax.dequantize" or dtype(call) != "float32":
        return None
    source = graph.only(call.args[0], "relax.quantize")
    if source is None or quantized(source, graph) is None or number(source.args[1]) != 1.0 or dtype(source.args[0]) != "float32":
        return None
    zeros, scale = [number(end.args[2]) for end in (source, call)], array(call.args[1])
    return source if zeros[0] is not None and zeros[0] == zeros[1] and scale is not None and scale.size == 1 else None


class StayReal(Walk):
    """One walk; `keep` are the dequantizes that stay."""

    def __init__(self, graph: Graph, keep: list[relax.Expr], programs: Programs) -> None:
        super().__init__(graph, {})
        self.keep, self.programs = keep, programs

    def settle(self, expr: relax.Expr) -> relax.Expr:
        source = reals(expr, self.graph)
        if source is None or any(expr.same_as(each) for each in self.keep):
            return expr
        info, zero = np.iinfo(dtype(source)), int(number(expr.args[2]) or 0)
        scale = constant(np.asarray(array(expr.args[1])).reshape(()))
        new = rounded(source.args[0], scale, (info.min - zero, info.max - zero), self.programs)
        self.graph.uses.subtract(variables(expr))
        flat = self.flatten(new)
        self.graph.uses.update(variables(flat))
        return flat


def rounded(real: relax.Expr, scale: relax.Expr, bounds: tuple[int, int], programs: Programs) -> relax.Expr:
    x, unit = placeholder(real, "x"), te.placeholder((), "float32", "scale")
    low, high = (tirx.const(bound, "float32") for bound in bounds)

    def element(*index: tirx.Var) -> tirx.Expr:
        held = te.min(te.max(x[index], low), high)
        return tirx.call_llvm_pure_intrin("int32", "llvm.lrint", held).astype("float32") * unit()

    return programs.call("round", [x, unit, te.compute(x.shape, element, name="round")], [real, scale], pattern=ELEMENTWISE)


def stored(bindings: Sequence[relax.Binding], graph: Graph) -> list[relax.Expr]:
    """The dequantizes whose result meets that of a later layer, in the order of `bindings`."""
    readers: dict[relax.Var, list[int]] = {}
    start: dict[relax.Var, int] = {}  # of the program that a result is computed in, -1 where that is as bytes are read
    for index, binding in enumerate(bindings):
        call = binding.value
        graph.made[binding.var] = call
        for var in variables(call):
            readers.setdefault(var, []).append(index)
        inside = by_element(call) or op_name(call) == "relax.quantize" or reals(call, graph) is not None
        from_memory = op_name(call) == "relax.dequantize"
        start[binding.var] = max((start.get(var, -1) for var in variables(call)), default=-1) if inside else -1 if from_memory else index
    found = []
    for binding in bindings:
        if reals(binding.value, graph) is not None and meets_later(binding.var, bindings, readers, start):
            found.append(binding.value)
    return found


def meets_later(
    var: relax.Var, bindings: Sequence[relax.Binding], readers: dict[relax.Var, list[int]], start: dict[relax.Var, int]
) -> bool:
    own = start[var]
    while len(readers.get(var, ())) == 1:
        reader = bindings[readers[var][0]]
        if not by_element(reader.value):
            return False
        if start[reader.var] > own:
            return True
        var = reader.var
    return False


@tvm.transform.module_pass(opt_level=0, name="stay_real")
def stay_real(module: tvm.IRModule, _context: Any) -> tvm.IRModule:
    programs = Programs(module)
    for variable, function in module.functions_items():
        blocks = function.body.blocks if isinstance(function, relax.Function) else []
        if len(blocks) == 1 and isinstance(blocks[0], relax.DataflowBlock):
            keep = stored(blocks[0].bindings, Graph(module, function))
            programs.builder.update_func(variable, StayReal(Graph(module, function), keep, programs).run(function))
    return programs.builder.get()
