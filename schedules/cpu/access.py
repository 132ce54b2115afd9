"""How a block walks through memory: the stride of every load and store along each of its loops.

    for i, j: y[i, j] = x[j, i] + b[j]     with x of 8 x 4     ->     y: {i: 8, j: 1} (stored)   x: {i: 1, j: 4}   b: {i: 0, j: 1}

An address that takes a loop variable apart, such as x[i // 3], has no stride along that loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Range, TensorLoad
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.sym import Analyzer, detect_linear_equation

block_realize = tvm.get_global_func("s_tir.schedule.GetSBlockRealize")


@dataclass(frozen=True)
class Access:
    """One load or store. `strides` has the step in elements for each loop, None where the address is not linear in that loop."""

    buffer: tirx.Buffer
    stored: bool
    strides: tuple[int | None, ...]


def substitute(expr: tirx.Expr, values: dict[tirx.Var, tirx.Expr]) -> tirx.Expr:
    return tvm_ffi.structural_map(expr, (tirx.Var, lambda var: values.get(var, var)))


def flat(buffer: tirx.Buffer, indices: Sequence[tirx.Expr]) -> tirx.Expr:
    """The position of an element, counted row by row from the first."""
    kind = str(indices[0].ty) if len(indices) else "int64"
    address: tirx.Expr = tirx.const(0, kind)
    for index, extent in zip(indices, buffer.shape, strict=True):
        address = address * tirx.const(int(extent), kind) + index
    return address


def stride(address: tirx.Expr, variable: tirx.Var) -> int | None:
    """How far `address` moves when `variable` grows by one; None where that is not constant."""
    parts = detect_linear_equation(address, [variable])
    return int(parts[0]) if parts and isinstance(parts[0], tirx.IntImm) else None


def accesses(sch: Schedule, block: SBlockRV, loops: Sequence[LoopRV] | None = None) -> list[Access]:
    """Every load and store in `block`, with strides along `loops` (by default all loops around it)."""
    realize = block_realize(sch, block)
    around = [sch.get(loop) for loop in sch.get_loops(block)]
    chosen = around if loops is None else [sch.get(loop) for loop in loops]
    values = {axis.var: value for axis, value in zip(realize.block.iter_vars, realize.iter_values, strict=True)}
    analyzer = Analyzer()
    for loop in around:
        analyzer.bind(loop.loop_var, Range.from_min_extent(loop.min, loop.extent))
    found: list[Access] = []

    def add(buffer: tirx.Buffer, indices: Sequence[tirx.Expr], stored: bool) -> None:
        address = analyzer.simplify(substitute(flat(buffer, indices), values))
        strides = tuple(stride(address, loop.loop_var) for loop in chosen)
        found.append(Access(buffer, stored, strides))

    def load(node: TensorLoad) -> None:
        add(node.source, node.indices, stored=False)

    def store(node: tirx.BufferStore) -> None:
        add(node.buffer, node.indices, stored=True)

    tvm_ffi.structural_walk(realize.block.body, [(TensorLoad, load), (tirx.BufferStore, store)])
    return found


def is_reduction(sch: Schedule, block: SBlockRV) -> bool:
    return any(axis.iter_type == tirx.IterVar.CommReduce for axis in sch.get(block).iter_vars)


def blocks_of(sch: Schedule) -> list[SBlockRV]:
    return list(sch.get_child_blocks(sch.get_sblock("root")))


def trivial(sch: Schedule, block: SBlockRV) -> bool:
    """Whether each axis of `block` is one of its loops, in order, and all extents are constant."""
    realize = block_realize(sch, block)
    loops = [sch.get(loop) for loop in sch.get_loops(block)]
    return (
        len(loops) == len(realize.iter_values)
        and all(value.same_as(loop.loop_var) for value, loop in zip(realize.iter_values, loops, strict=True))
        and all(isinstance(loop.extent, tirx.IntImm) for loop in loops)
        and isinstance(realize.predicate, tirx.IntImm)
    )


def calls(sch: Schedule, block: SBlockRV, names: frozenset[str]) -> bool:
    """Whether `block` calls one of the operators `names`."""
    found: list[str] = []
    tvm_ffi.structural_walk(sch.get(block).body, (tvm.ir.Call, lambda call: found.append(getattr(call.op, "name", ""))))
    return not names.isdisjoint(found)


def is_reduce_loop(sch: Schedule, block: SBlockRV) -> list[bool]:
    """For each loop around `block`, whether it belongs to the reduction."""
    realize = block_realize(sch, block)
    reduced: set[tirx.Var] = set()
    for axis, value in zip(realize.block.iter_vars, realize.iter_values, strict=True):
        if axis.iter_type == tirx.IterVar.CommReduce:
            tvm_ffi.structural_walk(value, (tirx.Var, reduced.add))
    return [sch.get(loop).loop_var in reduced for loop in sch.get_loops(block)]
