"""Parallel loops in equal parts, as the thread pool shares them out.

    for i in parallel(E): body   ->   for u in parallel(UNITS): for i in range(u * E // UNITS, (u + 1) * E // UNITS): body

TVM lets each task do E / tasks iterations, rounded up: with sixteen tasks of seven rows the first thread's eight would do them all. In
these parts every thread has the same part of every loop, within one iteration: rows stay with the core that wrote them.
"""

import tvm_ffi
from tvm import tirx

UNITS = 128  # as in runtime/runtime.h


def boundary(unit: tirx.Expr, extent: int) -> tirx.Expr:
    """unit * extent // UNITS, without a product that could overflow."""
    whole, rest, units = (tirx.const(number, str(unit.ty)) for number in (*divmod(extent, UNITS), UNITS))
    return unit * whole + unit * rest // units


def in_units(loop: tirx.For) -> tirx.For:
    if loop.kind != tirx.ForKind.PARALLEL:
        return loop
    dtype = str(loop.loop_var.ty)
    zero = tirx.const(0, dtype)
    if not isinstance(loop.extent, tirx.IntImm):  # no rule makes such a loop; one thread does it
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body, annotations=loop.annotations)
    unit = tirx.Var("unit", dtype)
    first = boundary(unit, int(loop.extent))
    count = boundary(unit + tirx.const(1, dtype), int(loop.extent)) - first
    inner = tirx.For(loop.loop_var, loop.min + first, count, tirx.ForKind.SERIAL, loop.body, annotations=loop.annotations)
    return tirx.For(unit, zero, tirx.const(UNITS, dtype), tirx.ForKind.PARALLEL, inner)


def parallel_units(body: tirx.Stmt) -> tirx.Stmt:
    return tvm_ffi.structural_map(body, (tirx.For, in_units))
