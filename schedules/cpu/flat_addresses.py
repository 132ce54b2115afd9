"""Addresses of one fused loop that was cut into vectors: one number in place of the digits that every buffer puts together again.

    y[z // 1344, z % 1344 // 24, z % 24]  with z = 64 * i + lane     ->     y[0, 0, 64 * i + lane]

TVM's simplifier finds that out for z itself, and not any more for its parts where 64 divides none of the digits: each lane would be loaded
by itself. The last index runs on over the ends of rows, as the element that it means does in memory.
"""

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Range, TensorLoad
from tvm.s_tir import Schedule
from tvm.sym import Analyzer

from schedules.cpu.access import flat, substitute


def flat_addresses(sch: Schedule) -> Schedule:
    """The same schedule; a block whose axes are digits of one sum of loop variables addresses memory by that sum where it can."""
    function = sch.mod["main"]
    last: dict[tirx.Var, tirx.Expr] = {}

    def note(loop: tirx.For) -> None:
        last[loop.loop_var] = loop.min + loop.extent - 1

    tvm_ffi.structural_walk(function.body, (tirx.For, note))
    body = tvm_ffi.structural_map(function.body, (s_tir.SBlockRealize, lambda realize: by_number(realize, last)))
    return Schedule(function.with_body(body)) if not body.same_as(function.body) else sch


def by_number(realize: s_tir.SBlockRealize, last: dict[tirx.Var, tirx.Expr]) -> s_tir.SBlockRealize:
    number = taken_apart(realize.iter_values)
    if number is None:
        return realize
    analyzer, whole = Analyzer(), tirx.Var("whole", str(number.ty))
    extent = analyzer.simplify(substitute(number, last) + 1)
    if not isinstance(extent, tirx.IntImm):
        return realize
    domain = Range.from_min_extent(0, extent)
    analyzer.bind(whole, domain)

    def quotient(node: tirx.FloorDiv) -> tirx.Expr:
        return tirx.FloorDiv(whole, node.b) if tvm_ffi.structural_equal(node.a, number) else node

    def remainder(node: tirx.FloorMod) -> tirx.Expr:
        return tirx.FloorMod(whole, node.b) if tvm_ffi.structural_equal(node.a, number) else node

    block = realize.block
    values = {
        axis.var: tvm_ffi.structural_map(value, [(tirx.FloorDiv, quotient), (tirx.FloorMod, remainder)])
        for axis, value in zip(block.iter_vars, realize.iter_values, strict=True)
    }

    def address(buffer: tirx.Buffer, indices: list[tirx.Expr]) -> list[tirx.Expr] | None:
        if len(indices) > 1 and analyzer.simplify(substitute(flat(buffer, indices), values)).same_as(whole):
            return [*[tirx.const(0, str(number.ty))] * (len(indices) - 1), whole]
        return None

    def load(node: TensorLoad) -> tirx.Expr:
        indices = address(node.source, list(node.indices))
        return node.source.vload(indices, str(node.ty)) if indices else node

    def store(node: tirx.BufferStore) -> tirx.Stmt:
        indices = address(node.buffer, list(node.indices))
        return tirx.BufferStore(node.buffer, node.value, indices) if indices else node

    body = tvm_ffi.structural_map(block.body, [(TensorLoad, load), (tirx.BufferStore, store)])
    axis = tirx.IterVar(domain, whole, tirx.IterVar.DataPar)
    new = s_tir.SBlock([*block.iter_vars, axis], block.reads, block.writes, block.name_hint, body, annotations=block.annotations)
    return s_tir.SBlockRealize([*realize.iter_values, number], realize.predicate, new)


def taken_apart(values: list[tirx.Expr]) -> tirx.Expr | None:
    """The sum that all of `values` are digits of; None where there is no such, or it is a variable."""
    found: list[tirx.Expr] = []

    def note(node: tirx.FloorDiv | tirx.FloorMod) -> None:
        if not isinstance(node.a, tirx.FloorDiv | tirx.FloorMod):
            found.append(node.a)

    for value in values:
        tvm_ffi.structural_walk(value, [(tirx.FloorDiv, note), (tirx.FloorMod, note)])
    same = all(tvm_ffi.structural_equal(found[0], other) for other in found)
    return found[0] if found and same and isinstance(found[0], tirx.Add) else None
