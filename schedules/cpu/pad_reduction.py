"""Make the length of a reduction a whole number of vectors; what is added changes nothing.

    for k in range(49): s = s + x[k]     ->     for k in range(64): s = s + (x[k] if k < 49 else 0)

The condition then leaves the vector loop when the program is lowered. Splitting the loop as it is would not do: `rfactor` drops the bound
check.
"""

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Range


def pad_reduction(program: tirx.PrimFunc, name: str, multiple: int) -> tirx.PrimFunc:
    """`program` with the one reduction axis of block `name` rounded up to a multiple."""
    padded: list[tuple[tirx.Var, int]] = []

    def realize(node: s_tir.SBlockRealize) -> s_tir.SBlockRealize:
        block = node.block
        if str(block.name_hint) != name:
            return node
        axis, value = block.iter_vars[-1], node.iter_values[-1]
        length = int(axis.dom.extent)
        total = -(-length // multiple) * multiple
        padded.append((value, total))
        kind = str(axis.var.ty)
        longer = tirx.IterVar(Range(tirx.const(0, kind), tirx.const(total, kind)), axis.var, axis.iter_type)
        store, combine = block.body, type(block.body.value)
        term = tirx.if_then_else(axis.var < tirx.const(length, kind), store.value.b, block.init.value)
        body = tirx.BufferStore(store.buffer, combine(store.value.a, term), store.indices)
        axes = [*block.iter_vars[:-1], longer]
        new = s_tir.SBlock(axes, block.reads, block.writes, name, body, block.init, annotations=block.annotations)
        return s_tir.SBlockRealize(node.iter_values, node.predicate, new)

    body = tvm_ffi.structural_map(program.body, (s_tir.SBlockRealize, realize))
    ((variable, total),) = padded

    def lengthen(loop: tirx.For) -> tirx.For:
        if not loop.loop_var.same_as(variable):
            return loop
        return tirx.For(loop.loop_var, loop.min, tirx.const(total, str(variable.ty)), loop.kind, loop.body, annotations=loop.annotations)

    return program.with_body(tvm_ffi.structural_map(body, (tirx.For, lengthen)))
