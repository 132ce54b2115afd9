"""Conditions out of inner loops: those of padding become the ends of loops, those of copies become loops of their own.

for r in range(3):                                              for r in range(max(0, 1 - h), min(3, 9 - h)):
    acc = max(acc, x[h + r - 1] if 1 <= h + r < 9 else -128)  ->      acc = max(acc, x[h + r - 1])

for c in range(17): y[c] = x[c] if c < 12 else w[c - 12]      ->     for c in range(12): y[c] = x[c]
                                                                     for c in range(5): y[12 + c] = w[c]

for c in range(16): y[c] = x[h, c] if h < 9 else 0            ->     if h < 9: for c ...: y[c] = x[h, c]     else: ...
"""

from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.sym import Analyzer

from stack.emit.vector_tails import boundary, conditions, cut, lanes, sequence, uses

REDUCTIONS = (tirx.Add, tirx.Max, tirx.Min)


@dataclass(frozen=True)
class Guarded:
    """What `condition` guards: without it, the expression would be `otherwise`."""

    condition: tirx.Expr
    value: tirx.Expr
    otherwise: tirx.Expr


def guarded(expr: tirx.Expr) -> Guarded | None:
    """The condition of a choice, of a choice in another type, or of a product with one that would be zero."""
    if getattr(getattr(expr, "op", None), "name", "") == "prim.if_then_else":
        return Guarded(*expr.args)
    if isinstance(expr, tirx.Select):
        return Guarded(expr.condition, expr.true_value, expr.false_value)
    if isinstance(expr, tirx.Cast) and (inner := guarded(expr.value)):
        return Guarded(inner.condition, tirx.Cast(expr.ty, inner.value), inner.otherwise)
    if isinstance(expr, tirx.Mul):
        for one, other in ((expr.a, expr.b), (expr.b, expr.a)):
            inner = guarded(one)
            if inner and is_constant(inner.otherwise, 0):
                value = inner.value * other if one.same_as(expr.a) else other * inner.value
                return Guarded(inner.condition, value, inner.otherwise)
    return None


def is_constant(expr: tirx.Expr, value: float) -> bool:
    return isinstance(expr, tirx.IntImm | tirx.FloatImm) and float(expr.value) == value


def neutral(kind: type[tirx.Expr], expr: tirx.Expr) -> bool:
    """Whether a reduction of that kind stays what it is under `expr`."""
    if kind is tirx.Add:
        return is_constant(expr, 0)
    limit = tirx.min_value(str(expr.ty)) if kind is tirx.Max else tirx.max_value(str(expr.ty))
    return is_constant(expr, float(limit.value))


def store(node: tirx.BufferStore) -> tirx.Stmt:
    """acc = acc + (v if c else 0)     ->     if c: acc = acc + v"""
    value = node.value
    if not isinstance(value, REDUCTIONS) or not tvm_ffi.structural_equal(value.a, tirx.BufferLoad(node.buffer, node.indices)):
        return node
    found = guarded(value.b)
    if found is None or not neutral(type(value), found.otherwise) or loads(found.condition):
        return node
    return tirx.IfThenElse(found.condition, tirx.BufferStore(node.buffer, type(value)(value.a, found.value), node.indices), None)


def loads(expr: tirx.Expr) -> bool:
    found: list[TensorLoad] = []
    tvm_ffi.structural_walk(expr, (TensorLoad, found.append))
    return bool(found)


def merge(node: tirx.SeqStmt) -> tirx.Stmt:
    """Neighbours under the same condition become one."""
    parts: list[tirx.Stmt] = []
    for part in node.seq:
        last = parts[-1] if parts else None
        if (
            isinstance(part, tirx.IfThenElse)
            and isinstance(last, tirx.IfThenElse)
            and part.else_case is None
            and last.else_case is None
            and not loads(part.condition)
            and tvm_ffi.structural_equal(part.condition, last.condition)
        ):
            parts[-1] = tirx.IfThenElse(part.condition, tirx.SeqStmt([last.then_case, part.then_case]), None)
        else:
            parts.append(part)
    return parts[0] if len(parts) == 1 else tirx.SeqStmt(parts)


def clauses(expr: tirx.Expr) -> list[tirx.Expr]:
    return [*clauses(expr.a), *clauses(expr.b)] if isinstance(expr, tirx.And) else [expr]


def loop(node: tirx.For) -> tirx.Stmt:
    body = node.body
    if node.kind != tirx.ForKind.SERIAL:
        return node
    if isinstance(body, tirx.IfThenElse) and body.else_case is None and not loads(body.condition):
        return tighten(node, body)
    if isinstance(body, tirx.IfThenElse) and not loads(body.condition):
        return split(node, body)
    choice = guarded(body.value) if isinstance(body, tirx.BufferStore) else None
    if choice is None or isinstance(body.value, tirx.Mul) or loads(choice.condition):
        return node
    if not uses(choice.condition, node.loop_var):
        sides = [tirx.BufferStore(body.buffer, side, body.indices) for side in (choice.value, cast_like(choice, body.value))]
        return tirx.IfThenElse(choice.condition, *[repeat(node, side) for side in sides])
    edges = [boundary(part, node.loop_var) for part in conditions(body, node.loop_var)]
    if (
        isinstance(node.extent, tirx.IntImm)
        and len(edges) <= 2
        and all(edge is not None and isinstance(edge.at, tirx.IntImm) for edge in edges)
    ):
        return cut(node, body, 0, int(node.extent))
    return node


def split(node: tirx.For, body: tirx.IfThenElse) -> tirx.Stmt:
    """`for w: if 1 <= w < 9 and c: A else: B`     ->     `if c: for w < 1: B; for 1 <= w < 9: A; for w >= 9: B`, `else: for w: B`"""
    if not isinstance(node.extent, tirx.IntImm) or int(node.min) != 0:
        return node
    first, end, outside = 0, int(node.extent), []
    for clause in clauses(body.condition):
        edge = boundary(clause, node.loop_var) if uses(clause, node.loop_var) else None
        if edge is None and not uses(clause, node.loop_var):
            outside.append(clause)
        elif edge is not None and isinstance(edge.at, tirx.IntImm):
            first, end = (first, min(end, int(edge.at))) if edge.below else (max(first, int(edge.at)), end)
        else:
            return node
    parts = [(body.else_case, 0, first), (body.then_case, first, end), (body.else_case, end, int(node.extent))]
    inside = sequence([lanes(node, part, start, stop, tirx.ForKind.SERIAL) for part, start, stop in parts if start < stop])
    return tirx.IfThenElse(tirx.all(*outside), inside, repeat(node, body.else_case)) if outside else inside


def cast_like(choice: Guarded, value: tirx.Expr) -> tirx.Expr:
    return tirx.Cast(value.ty, choice.otherwise) if isinstance(value, tirx.Cast) else choice.otherwise


def repeat(node: tirx.For, body: tirx.Stmt) -> tirx.For:
    var = tirx.Var(node.loop_var.name, node.loop_var.ty)
    body = tvm_ffi.structural_map(body, (tirx.Var, lambda other: var if other.same_as(node.loop_var) else other))
    return tirx.For(var, node.min, node.extent, node.kind, body, None, node.annotations)


def tighten(node: tirx.For, body: tirx.IfThenElse) -> tirx.Stmt:
    """`for r: if lo <= r and r < hi and c: ...`     ->     `if c: for r in range(max(0, lo), min(3, hi)): ...`"""
    first, end = node.min, node.min + node.extent
    outside: list[tirx.Expr] = []
    inside: list[tirx.Expr] = []
    for clause in clauses(body.condition):
        edge = boundary(clause, node.loop_var) if uses(clause, node.loop_var) else None
        if edge is not None:
            first, end = (first, tirx.min(end, edge.at)) if edge.below else (tirx.max(first, edge.at), end)
        else:
            (inside if uses(clause, node.loop_var) else outside).append(clause)
    analyzer = Analyzer()
    inner = tirx.IfThenElse(tirx.all(*inside), body.then_case, None) if inside else body.then_case
    first = analyzer.simplify(first)
    result: tirx.Stmt = tirx.For(node.loop_var, first, analyzer.simplify(end - first), node.kind, inner, None, node.annotations)
    return tirx.IfThenElse(tirx.all(*outside), result, None) if outside else result


@tirx.transform.prim_func_pass(opt_level=0, name="move_guards")
def move_guards(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    return function.with_body(tvm_ffi.structural_map(function.body, [(tirx.BufferStore, store), (tirx.SeqStmt, merge), (tirx.For, loop)]))
