"""Over which of its inputs a program may write its output.

It may over one where one store writes all of the output, in the order of memory, and each element of it depends on that same element of the
input alone: y[i] = f(x[i], ...). What is read later then lies behind what has been written.
"""

import tvm_ffi
from tvm import tirx
from tvm.ir import Range, TensorLoad
from tvm.sym import Analyzer, detect_linear_equation

from stack.emit.c_types import itemsize


def computed_in_place(program: tirx.PrimFunc) -> list[int]:
    """The positions of the parameters at which the output may begin, or below which."""
    stores: list[tirx.BufferStore] = []
    loads: list[TensorLoad] = []
    loops: list[tirx.For] = []
    tvm_ffi.structural_walk(program.body, [(tirx.BufferStore, stores.append), (TensorLoad, loads.append), (tirx.For, loops.append)])
    *inputs, y = program.params
    if len(stores) != 1 or not stores[0].buffer.same_as(y) or any(load.source.same_as(y) for load in loads):
        return []
    analyzer = Analyzer()
    for loop in loops:
        analyzer.bind(loop.loop_var, Range.from_min_extent(loop.min, loop.extent))
    (written,) = stores[0].indices
    if not rises(written, nest(program.body), analyzer):
        return []

    def alike(x: tirx.Expr) -> bool:
        reads = [load.indices[0] for load in loads if load.source.same_as(x)]
        return itemsize(str(x.dtype)) == itemsize(str(y.dtype)) and all(analyzer.can_prove_equal(read, written) for read in reads)

    return [index for index, x in enumerate(inputs) if alike(x)]


def nest(body: tirx.Stmt) -> list[tirx.For] | None:
    """The loops around the one statement, outermost first; None where there is more than loops and a store."""
    loops = []
    while isinstance(body, tirx.For):
        loops.append(body)
        body = body.body
    return loops if isinstance(body, tirx.BufferStore) else None


def rises(address: tirx.Expr, loops: list[tirx.For] | None, analyzer: Analyzer) -> bool:
    """Whether `address` grows with every iteration."""
    if loops is None:
        return False
    reach = 0
    for loop in reversed(loops):
        parts = detect_linear_equation(analyzer.simplify(address), [loop.loop_var])
        if not parts or not isinstance(parts[0], tirx.IntImm) or not isinstance(loop.extent, tirx.IntImm) or int(parts[0]) <= reach:
            return False
        reach += int(parts[0]) * (int(loop.extent) - 1)
    return True
