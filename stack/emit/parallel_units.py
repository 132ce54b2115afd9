"""Parallel loops in equal parts, as the thread pool shares them out.

    for i in parallel(E): body   ->   for u in parallel(UNITS): for i in range(u * E // UNITS, (u + 1) * E // UNITS): body

TVM lets each task do E / tasks iterations, rounded up: with sixteen tasks of seven rows the first thread's eight would do them all. In
these parts every thread has the same part of every loop, within one iteration: rows stay with the core that wrote them.
"""

import tvm
import tvm_ffi
from tvm import tirx

UNITS = 128  # as in runtime/runtime.h


def boundary(unit: tirx.Expr, extent: int) -> tirx.Expr:
    """unit * extent // UNITS, without a product that could overflow."""
    whole, rest = divmod(extent, UNITS)
    return unit * tirx.const(whole, "int32") + unit * tirx.const(rest, "int32") // tirx.const(UNITS, "int32")


def in_units(loop: tirx.For) -> tirx.For:
    if loop.kind != tirx.ForKind.PARALLEL:
        return loop
    known = isinstance(loop.extent, tirx.IntImm) and str(loop.loop_var.ty) == "int32"
    unit = tirx.Var("unit", "int32")
    first = boundary(unit, int(loop.extent)) if known else tirx.const(0, "int32")
    count = boundary(unit + tirx.const(1, "int32"), int(loop.extent)) - first if known else loop.extent
    start = loop.min + first if known else loop.min
    inner = tirx.For(loop.loop_var, start, count, tirx.ForKind.SERIAL, loop.body, annotations=loop.annotations)
    if not known:  # no rule makes such a loop; one thread does it then, for the pool knows no other number of parts
        return inner
    return tirx.For(unit, tirx.const(0, "int32"), tirx.const(UNITS, "int32"), tirx.ForKind.PARALLEL, inner)


@tirx.transform.prim_func_pass(opt_level=0, name="parallel_units")
def parallel_units(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.For, in_units)))
