"""Take the bound check out of a vector loop: the simplifier keeps it per lane, and one checked lane makes the whole loop scalar.

    for v in vectorized(16):             if i * 16 + 16 <= 49:
        if i * 16 + v < 49:                  for v in vectorized(16):
            y[i * 16 + v] = ...                  y[i * 16 + v] = ...
                                   ->    elif i * 16 < 49:
                                             for v in vectorized(1):
                                                 y[i * 16 + v] = ...

Runs just before `VectorizeLoop`. Checks without the lane move out as they are; where the length of the tail is not known, it becomes a scalar loop.
"""

import tvm
import tvm_ffi
from tvm import tirx
from tvm.sym import Analyzer


def conjuncts(condition: tirx.Expr) -> list[tirx.Expr]:
    if isinstance(condition, tirx.And):
        return conjuncts(condition.a) + conjuncts(condition.b)
    return [condition]


def uses(expr: tirx.Expr, var: tirx.Var) -> bool:
    found = []
    tvm_ffi.structural_walk(expr, (tirx.Var, lambda other: found.append(True) if other.same_as(var) else None))
    return bool(found)


def replaced(expr: tirx.Expr, var: tirx.Var, value: tirx.Expr) -> tirx.Expr:
    return tvm_ffi.structural_map(expr, (tirx.Var, lambda other: value if other.same_as(var) else other))


def within(condition: tirx.Expr, lane: tirx.Var) -> tuple[tirx.Expr, int] | None:
    """(base, bound) of `base + lane < bound`, None for anything else."""
    if not isinstance(condition, tirx.LT) or not isinstance(condition.b, tirx.IntImm):
        return None
    zero = tirx.const(0, str(lane.ty))
    base = Analyzer().simplify(replaced(condition.a, lane, zero))
    step = Analyzer().simplify(condition.a - base - lane)
    return (base, int(condition.b)) if isinstance(step, tirx.IntImm) and int(step) == 0 else None


def split_tail(loop: tirx.For) -> tirx.Stmt:
    guard = loop.body
    if loop.kind != tirx.ForKind.VECTORIZED or not isinstance(guard, tirx.IfThenElse) or guard.else_case is not None:
        return loop
    checks = conjuncts(guard.condition)
    laned = [check for check in checks if uses(check, loop.loop_var)]
    fixed = [check for check in checks if not uses(check, loop.loop_var)]
    bound = within(laned[0], loop.loop_var) if len(laned) == 1 else None
    if laned and bound is None:
        return loop

    def lanes(count: tirx.Expr | int, kind: tirx.ForKind = tirx.ForKind.VECTORIZED) -> tirx.Stmt:
        var = tirx.Var(loop.loop_var.name, loop.loop_var.ty)
        body = replaced(guard.then_case, loop.loop_var, var)
        if isinstance(count, int):
            kind = tirx.ForKind.SERIAL if count == 1 else kind  # there are no vectors of one lane
            count = tirx.const(count, str(var.ty))
        return tirx.For(var, tirx.const(0, str(var.ty)), count, kind, body)

    width = int(loop.extent)
    if bound is None:
        result = lanes(width)
    else:
        base, end = bound
        analyzer = Analyzer()
        aligned = analyzer.can_prove_equal(tirx.floormod(base, width), 0)
        if aligned and end % width == 0:
            result = tirx.IfThenElse(base < end, lanes(width), None)
        elif isinstance(base, tirx.IntImm):
            count = max(0, min(width, end - int(base)))
            result = lanes(count) if count else tirx.Evaluate(0)
        else:
            rest = lanes(end % width) if aligned else lanes(tirx.max(end - base, 0), tirx.ForKind.SERIAL)
            result = tirx.IfThenElse(base + width <= end, lanes(width), tirx.IfThenElse(base < end, rest, None))
    for check in fixed:
        result = tirx.IfThenElse(check, result, None)
    return result


@tirx.transform.prim_func_pass(opt_level=0, name="vector_tails")
def vector_tails(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.For, split_tail)))
