"""A dequantize for each reader, so that it fuses there and only bytes are kept.

r = dequantize(x); y = r + a; z = r * b     ->     y = dequantize(x) + a; z = dequantize(x) * b
"""

from tvm import relax
from tvm.ir import Op

from relay_passes.rewrite import Graph, Walk, op_name, variables, walk_pass

DEQUANTIZE = "relax.dequantize"


class Separate(Walk):
    def __init__(self, graph: Graph) -> None:
        super().__init__(graph, {})

    def settle(self, expr: relax.Expr) -> relax.Expr:
        if not isinstance(expr, relax.Call) or not isinstance(expr.op, Op) or op_name(expr) == DEQUANTIZE:
            return expr
        before = list(expr.args)
        arguments = [self.copied(argument) for argument in before]
        if all(new is old for new, old in zip(arguments, before, strict=True)):
            return expr
        self.graph.uses.subtract(variables(expr))
        flat = self.flatten(relax.Call(expr.op, arguments, expr.attrs, expr.ty_args))
        self.graph.uses.update(variables(flat))
        return flat

    def copied(self, expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Tuple):
            before = list(expr.fields)
            fields = [self.copied(field) for field in before]
            return relax.Tuple(fields) if any(new is not old for new, old in zip(fields, before, strict=True)) else expr
        source = self.graph.source(expr)
        if op_name(source) != DEQUANTIZE or self.graph.uses[expr] < 2:
            return expr
        return relax.Call(source.op, list(source.args), source.attrs)


separate_dequantize = walk_pass("separate_dequantize", Separate)
