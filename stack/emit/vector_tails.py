"""Take conditions out of vector loops: one condition that a lane decides makes every lane scalar.

    for v in vectorized(16):             if i * 16 + 16 <= 49:
        if i * 16 + v < 49:                  for v in vectorized(16):
            y[i * 16 + v] = ...                  y[i * 16 + v] = ...
                                   ->    elif i * 16 < 49:
                                             for v in serial(1):
                                                 y[i * 16 + v] = ...

Each comparison that is linear in the lane has one boundary, below which it is true (or false) and above which it is not. Where the
boundary can only lie at one place inside a vector, the loop becomes one vector on each side; elsewhere it becomes a scalar loop. Bounds
of odd lengths, padding and concatenation along the innermost axis all look like this. `Select` stays: both its values may be computed, so
a vector of it is a blend. Runs just before `VectorizeLoop`.
"""

from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import tirx
from tvm.sym import Analyzer

MAX_CONDITIONS = 3  # each may triple the code
COMPARISONS = (tirx.LT, tirx.LE, tirx.GT, tirx.GE)


@dataclass(frozen=True)
class Boundary:
    """`condition` equals `below` for lanes less than `at`, and its opposite for the others."""

    condition: tirx.Expr
    at: tirx.Expr
    below: bool


def uses(expr: tirx.Expr, var: tirx.Var) -> bool:
    found: list[tirx.Var] = []
    tvm_ffi.structural_walk(expr, (tirx.Var, found.append))
    return any(other.same_as(var) for other in found)


def comparisons(expr: tirx.Expr, lane: tirx.Var) -> list[tirx.Expr]:
    """The parts of a condition that depend on the lane."""
    if isinstance(expr, tirx.And | tirx.Or):
        return comparisons(expr.a, lane) + comparisons(expr.b, lane)
    if isinstance(expr, tirx.Not):
        return comparisons(expr.a, lane)
    return [expr] if uses(expr, lane) else []


def conditions(body: tirx.Stmt, lane: tirx.Var) -> list[tirx.Expr]:
    """Every comparison on the lane that chooses what is executed, each once."""
    found: list[tirx.Expr] = []

    def add(expr: tirx.Expr) -> None:
        found.extend(part for part in comparisons(expr, lane) if not any(tvm_ffi.structural_equal(part, other) for other in found))

    def call(node: tvm.ir.Call) -> None:
        if getattr(node.op, "name", "") == "prim.if_then_else":
            add(node.args[0])

    tvm_ffi.structural_walk(body, [(tirx.IfThenElse, lambda node: add(node.condition)), (tvm.ir.Call, call)])
    return found


def boundary(condition: tirx.Expr, lane: tirx.Var) -> Boundary | None:
    """Where `condition` changes; None where it is not a comparison that the lane moves by one."""
    if not isinstance(condition, COMPARISONS):
        return None
    less, more = (condition.a, condition.b) if isinstance(condition, tirx.LT | tirx.LE) else (condition.b, condition.a)
    if isinstance(condition, tirx.LE | tirx.GE):
        more = more + 1  # now: less < more
    analyzer = Analyzer()
    gap = analyzer.simplify(more - less)  # the condition: gap > 0
    start = analyzer.simplify(replace_var(gap, lane, tirx.const(0, str(lane.ty))))
    slope = analyzer.simplify(replace_var(gap, lane, tirx.const(1, str(lane.ty))) - start)
    if not isinstance(slope, tirx.IntImm) or not analyzer.can_prove_equal(gap, start + slope * lane):
        return None
    if int(slope) == -1:
        return Boundary(condition, start, below=True)
    return Boundary(condition, analyzer.simplify(1 - start), below=False) if int(slope) == 1 else None


def replace_var(node: tirx.Expr | tirx.Stmt, var: tirx.Var, value: tirx.Expr) -> tirx.Expr | tirx.Stmt:
    return tvm_ffi.structural_map(node, (tirx.Var, lambda other: value if other.same_as(var) else other))


def decide(body: tirx.Stmt, condition: tirx.Expr, truth: bool) -> tirx.Stmt:
    """`body` where `condition` is known."""
    known = tirx.const(truth, "bool")
    kind = type(condition)
    return tvm_ffi.structural_map(body, (kind, lambda node: known if tvm_ffi.structural_equal(node, condition) else node))


def lanes(loop: tirx.For, body: tirx.Stmt, start: int, stop: int, kind: tirx.ForKind) -> tirx.Stmt:
    """The loop over lanes `start` to `stop`."""
    var = tirx.Var(loop.loop_var.name, loop.loop_var.ty)
    lane = var if start == 0 else var + tirx.const(start, str(var.ty))
    kind = tirx.ForKind.SERIAL if stop - start == 1 else kind  # there are no vectors of one lane
    return tirx.For(var, tirx.const(0, str(var.ty)), tirx.const(stop - start, str(var.ty)), kind, replace_var(body, loop.loop_var, lane))


def sequence(parts: list[tirx.Stmt]) -> tirx.Stmt:
    return parts[0] if len(parts) == 1 else tirx.SeqStmt(parts)


def cut(loop: tirx.For, body: tirx.Stmt, start: int, stop: int) -> tirx.Stmt:
    """Lanes `start` to `stop` of the loop with `body`, without conditions on the lane as far as that can be."""
    found = conditions(body, loop.loop_var)
    if not found:
        return lanes(loop, body, start, stop, loop.kind)
    edge = boundary(found[0], loop.loop_var) if len(found) <= MAX_CONDITIONS else None
    if edge is None:
        return lanes(loop, body, start, stop, tirx.ForKind.SERIAL)
    below, above = (decide(body, edge.condition, truth) for truth in (edge.below, not edge.below))

    def at(place: int) -> tirx.Stmt:
        parts = [(below, start, min(stop, place)), (above, max(start, place), stop)]
        return sequence([cut(loop, part, first, last) for part, first, last in parts if first < last])

    if isinstance(edge.at, tirx.IntImm):
        return at(int(edge.at))
    width = int(loop.extent)
    inside = Analyzer().simplify(tirx.floormod(edge.at, tirx.const(width, str(edge.at.ty))))
    if not isinstance(inside, tirx.IntImm):
        return lanes(loop, body, start, stop, tirx.ForKind.SERIAL)
    result = cut(loop, above, start, stop)
    if start < int(inside) < stop:
        result = tirx.IfThenElse(edge.at <= start, result, at(int(inside)))
    return tirx.IfThenElse(edge.at >= stop, cut(loop, below, start, stop), result)


def cut_vector(loop: tirx.For) -> tirx.Stmt:
    if loop.kind != tirx.ForKind.VECTORIZED or not isinstance(loop.extent, tirx.IntImm) or not conditions(loop.body, loop.loop_var):
        return loop
    return cut(loop, loop.body, 0, int(loop.extent))


@tirx.transform.prim_func_pass(opt_level=0, name="vector_tails")
def vector_tails(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.For, cut_vector)))
