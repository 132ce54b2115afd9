"""A window that reads an image inside a border of zeros: skip what lies in the border, rather than copy the image into one.

    for h, v: pad[h, v] = x[h - 1, v - 1] if 1 <= h and h <= H and 1 <= v and v <= W else 0
    for h, v, r, s: y[h, v] += pad[h + r, v + s] * f[r, s]
                                          ->
    for h, v, r, s: if 1 <= h + r and h + r <= H: if 1 <= v + s and v + s <= W: y[h, v] += x[h + r - 1, v + s - 1] * f[r, s]

The conditions on rows stand outside those on columns, so that they leave the loops over columns when the program is lowered; the latter
are decided where those loops are unrolled.
"""

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Range, TensorLoad

from schedules.cpu.access import substitute


def conjuncts(condition: tirx.Expr) -> list[tirx.Expr]:
    if isinstance(condition, tirx.And):
        return conjuncts(condition.a) + conjuncts(condition.b)
    return [condition]


def uses(expr: tirx.Expr, var: tirx.Var) -> bool:
    found: list[tirx.Var] = []
    tvm_ffi.structural_walk(expr, (tirx.Var, found.append))
    return any(other.same_as(var) for other in found)


def guard_border(program: tirx.PrimFunc, name: str) -> tirx.PrimFunc | None:
    """`program` without its block `pad`, whose image the sum in block `name` then reads by itself; None where they are of another form."""
    blocks: dict[str, s_tir.SBlock] = {}
    tvm_ffi.structural_walk(program.body, (s_tir.SBlock, lambda block: blocks.__setitem__(str(block.name_hint), block)))
    pad = blocks.get("pad")
    if pad is None or name not in blocks or not isinstance(pad.body, tirx.BufferStore):
        return None
    value, border = pad.body.value, pad.body.buffer
    if not isinstance(value, tvm.ir.Call) or getattr(value.op, "name", "") != "prim.if_then_else" or not is_zero(value.args[2]):
        return None
    condition, inside, _ = value.args
    row = pad.iter_vars[2].var

    def realize(node: s_tir.SBlockRealize) -> s_tir.SBlockRealize | tirx.Stmt:
        block = node.block
        if str(block.name_hint) != name:
            return node
        store = block.body
        conditions: list[tirx.Expr] = []

        def load(found: TensorLoad) -> tirx.Expr:
            if not found.source.same_as(border):
                return found
            values = {axis.var: index for axis, index in zip(pad.iter_vars, found.indices, strict=True)}
            parts = conjuncts(condition)
            rows = [part for part in parts if uses(part, row)]
            columns = [part for part in parts if not uses(part, row)]
            conditions.extend(substitute(part, values) for part in [*columns, *rows])
            return substitute(inside, values)

        body: tirx.Stmt = tirx.BufferStore(store.buffer, tvm_ffi.structural_map(store.value, (TensorLoad, load)), store.indices)
        for part in conditions:
            body = tirx.IfThenElse(part, body, None)
        whole = tirx.BufferRegion(inside.source, [Range.from_min_extent(tirx.const(0, "int64"), extent) for extent in inside.source.shape])
        reads = [whole if region.source.same_as(border) else region for region in block.reads]
        new = s_tir.SBlock(block.iter_vars, reads, block.writes, name, body, block.init, annotations=block.annotations)
        return s_tir.SBlockRealize(node.iter_values, node.predicate, new)

    root = program.body.block
    parts = [part for part in root.body.seq if not holds(part, pad)]
    allocated = [buffer for buffer in root.alloc_buffers if not buffer.same_as(border)]
    body = tvm_ffi.structural_map(tirx.SeqStmt(parts) if len(parts) > 1 else parts[0], (s_tir.SBlockRealize, realize))
    block = s_tir.SBlock([], [], [], "root", body, alloc_buffers=allocated, annotations=root.annotations)
    return program.with_body(s_tir.SBlockRealize([], program.body.predicate, block))


def holds(statement: tirx.Stmt, block: s_tir.SBlock) -> bool:
    found: list[s_tir.SBlock] = []
    tvm_ffi.structural_walk(statement, (s_tir.SBlock, found.append))
    return any(other.same_as(block) for other in found)


def is_zero(value: tirx.Expr) -> bool:
    return isinstance(value, tirx.FloatImm) and float(value.value) == 0.0
