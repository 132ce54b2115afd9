"""Compute the same thing once.

    a = conv2d(x, w)                  a = conv2d(x, w)
    b = conv2d(x, w)           ->     y = add(a, a)
    y = add(a, b)

Two calls are the same when operator, attributes and operands are. Small constants are compared by value, large ones by identity:
hashing all the weights of a network, as TVM's `EliminateCommonSubexpr` does, costs more than every other pass together.
"""

from collections.abc import Hashable

import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm_ffi import StructuralKey

from relay_passes.rewrite import Graph, Walk, array, dtype, walk_pass

SMALL = 4096  # bytes: biases and scales of channels, not weights


def key(expr: relax.Expr) -> Hashable:
    """Equal for two expressions exactly where they have the same value, large constants aside."""
    if isinstance(expr, GenericConst):
        value = array(expr)
        assert value is not None
        return (dtype(expr), value.shape, value.tobytes()) if value.nbytes <= SMALL else expr
    if isinstance(expr, relax.Tuple):
        return tuple(key(field) for field in expr.fields)
    if isinstance(expr, relax.TupleGetItem):
        return key(expr.tuple_value), expr.index
    if isinstance(expr, relax.Call):
        return key(expr.op), StructuralKey(expr.attrs), *(key(argument) for argument in expr.args)
    by_object: Hashable = expr if isinstance(expr, relax.Var | tvm.ir.GlobalVar) else StructuralKey(expr)
    return by_object


class Share(Walk):
    """Whatever was computed before is replaced by the variable that holds it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph, {})
        self.seen: dict[Hashable, relax.Var] = {}

    def settle(self, expr: relax.Expr) -> relax.Expr:
        return self.seen.get(key(expr), expr)

    def add(self, binding: relax.Binding) -> None:
        super().add(binding)
        self.seen.setdefault(key(binding.value), binding.var)


share_subexpressions = walk_pass("share_subexpressions", Share)
