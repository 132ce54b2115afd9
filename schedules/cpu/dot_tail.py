"""What follows sums of integer products, read out of a program: one store for each element, which any loops may compute.

acc[n, h, w, f // 16, f % 16] = sum ...                         Tail(store=y[n, h, w, f] = ..., axes=(n, h, w, f))
t = float32(acc[n, h, w, f // 16, f % 16] + bias[f])     ->
y[n, h, w, f] = uint8(clip(round(t * scale[f]) + 3, 0, 255))
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import TensorLoad
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV, ScheduleError

from schedules.cpu.access import blocks_of, substitute, trivial
from schedules.cpu.conv2d import find, inline_tail
from schedules.cpu.dot_pad import pad_rows, read_border
from schedules.cpu.nest import spread
from schedules.machine import Machine


@dataclass(frozen=True)
class Tail:
    """The last stage of a program over its own loops: those of the pixels, then the column."""

    store: tirx.BufferStore
    axes: tuple[tirx.Var, ...]
    extents: tuple[int, ...]
    sums: tirx.Buffer

    def value_at(self, value: tirx.Expr, indices: Sequence[tirx.Expr], sums: tirx.Expr) -> tirx.Expr:
        """`value`, the stored one or a part of it, for the element at `indices`, of which `sums` is the sum."""
        values = dict(zip(self.axes, indices, strict=True))

        def load(node: TensorLoad) -> tirx.Expr:
            return sums if node.source.same_as(self.sums) else node

        return substitute(tvm_ffi.structural_map(value, (TensorLoad, load)), values)

    def indices_at(self, indices: Sequence[tirx.Expr]) -> list[tirx.Expr]:
        """Where the element at `indices` is stored."""
        values = dict(zip(self.axes, indices, strict=True))
        return [substitute(index, values) for index in self.store.indices]

    def at(self, indices: Sequence[tirx.Expr], sums: tirx.Expr) -> tirx.Stmt:
        """The store of one element."""
        return tirx.BufferStore(self.store.buffer, self.value_at(self.store.value, indices, sums), self.indices_at(indices))

    @property
    def bias(self) -> tirx.Expr | None:
        """What of int32, the same for all pixels, is added to each sum before anything else happens to it."""
        found: list[tirx.Expr] = []

        def add(node: tirx.Add) -> None:
            if isinstance(node.a, TensorLoad) and node.a.source.same_as(self.sums) and not uses(node.b, self.axes[:-1]):
                found.append(node.b)

        tvm_ffi.structural_walk(self.store.value, (tirx.Add, add))
        count = sum(load.source.same_as(self.sums) for load in self.loads())
        same = all(tvm_ffi.structural_equal(found[0], other) for other in found)
        return found[0] if found and len(found) == count and same else None

    @property
    def without_bias(self) -> "Tail":
        """The same with the bias in the sums already."""

        def add(node: tirx.Add) -> tirx.Expr:
            return node.a if isinstance(node.a, TensorLoad) and node.a.source.same_as(self.sums) else node

        value = tvm_ffi.structural_map(self.store.value, (tirx.Add, add))
        return replace(self, store=tirx.BufferStore(self.store.buffer, value, self.store.indices))

    @property
    def contiguous(self) -> bool:
        """Whether columns lie beside one another in the result."""
        *others, last = self.store.indices
        return last.same_as(self.axes[-1]) and not any(uses(index, self.axes[-1:]) for index in others)

    def loads(self) -> list[TensorLoad]:
        found: list[TensorLoad] = []
        tvm_ffi.structural_walk(self.store.value, (TensorLoad, found.append))
        return found

    @property
    def flattens(self) -> bool:
        """Whether everything that depends on a pixel lies in the order of pixels, so that one number says which it is."""
        places = [
            (self.store.buffer, self.store.indices),
            *((n.source, n.indices) for n in self.loads() if not n.source.same_as(self.sums)),
        ]
        pixels = self.axes[:-1]

        def in_order(buffer: tirx.Buffer, indices: Sequence[tirx.Expr]) -> bool:
            if not any(uses(index, pixels) for index in indices):
                return True
            first = len(indices) - len(self.axes)
            lead, own = indices[:first], indices[first:-1]
            return (
                first >= 0
                and not any(uses(i, pixels) for i in lead)
                and not uses(indices[-1], pixels)
                and all(
                    index.same_as(axis) or (size == 1 and isinstance(index, tirx.IntImm))
                    for index, axis, size in zip(own, pixels, self.extents, strict=False)
                )
                and [int(e) for e in buffer.shape[first:-1]] == list(self.extents[:-1])
            )

        return all(in_order(*place) for place in places)


def uses(expr: tirx.Expr, axes: Sequence[tirx.Var]) -> bool:
    found: list[tirx.Var] = []
    tvm_ffi.structural_walk(expr, (tirx.Var, found.append))
    return any(var.same_as(axis) for var in found for axis in axes)


@dataclass(frozen=True)
class DotProgram:
    """A program whose sums one block makes and one more stage uses; `ahead` are the stages that make operands of that block."""

    sch: Schedule
    block: SBlockRV
    tail: Tail
    ahead: tuple[SBlockRV, ...]

    @property
    def sums(self) -> s_tir.SBlock:
        return self.sch.get(self.block)


def read(program: tirx.PrimFunc, name: str, ahead: set[str]) -> DotProgram | None:
    """`program` with everything inlined but the block `name`, the stages `ahead` of it, and the last; None where it is another."""
    sch = Schedule(program)
    block = find(sch, name)
    if block is None or not all(trivial(sch, other) for other in blocks_of(sch)):
        return None
    try:
        for other in blocks_of(sch):
            if str(sch.get(other).name_hint) not in {name, *ahead} and sch.get_consumers(other) and not sch.get_producers(other):
                sch.compute_inline(other)
        last = inline_tail(sch, block) or sch.cache_write(block, 0, "local")
    except ScheduleError:
        return None
    others = [other for other in blocks_of(sch) if str(sch.get(other).name_hint) in ahead]
    if len(blocks_of(sch)) != len(others) + 2:
        return None
    node = sch.get(last)
    if not isinstance(node.body, tirx.BufferStore) or any(axis.iter_type != tirx.IterVar.DataPar for axis in node.iter_vars):
        return None
    if any(str(axis.var.ty) != "int64" for axis in (*node.iter_vars, *sch.get(block).iter_vars)):
        return None
    axes = tuple(axis.var for axis in node.iter_vars)
    extents = tuple(int(axis.dom.extent) for axis in node.iter_vars)
    return DotProgram(sch, block, Tail(node.body, axes, extents, sch.get(block).writes[0].source), tuple(others))


def factors(program: DotProgram) -> tuple[TensorLoad, TensorLoad] | None:
    """The unsigned and the signed byte that each step multiplies, None where it does something else."""
    value = program.sums.body.value
    if not isinstance(value, tirx.Add) or not isinstance(value.b, tirx.Mul):
        return None
    x, w = (factor.value if isinstance(factor, tirx.Cast) else factor for factor in (value.b.a, value.b.b))
    loads = isinstance(x, TensorLoad) and isinstance(w, TensorLoad)
    return (x, w) if loads and (str(x.ty), str(w.ty)) == ("uint8", "int8") else None


def replace_loops(
    program: DotProgram, body: tirx.Stmt, buffers: Sequence[tirx.Buffer], machine: Machine, keep_ahead: bool = True
) -> Schedule:
    """A schedule of `program` in which `body` computes the sums and the tail; the stages ahead of it become loops of their own."""
    sch = program.sch
    root, kept = sch.mod["main"].body.block, []
    for stage in program.ahead if keep_ahead else ():
        border = read_border(sch.get(stage))
        if border is not None:
            rows = pad_rows(border, machine)
        else:
            spread(sch, stage, machine)
            name, root = str(sch.get(stage).name_hint), sch.mod["main"].body.block
            rows = next(nest for nest in root.body if holds(nest, name))
        kept.append(rows)
    gone = [program.tail.sums, *(sch.get(stage).writes[0].source for stage in program.ahead if not keep_ahead)]
    allocated = [buffer for buffer in root.alloc_buffers if not any(buffer.same_as(other) for other in gone)]
    every = tirx.SeqStmt([*kept, body]) if kept else body
    new = s_tir.SBlock([], [], [], "root", every, alloc_buffers=[*allocated, *buffers], annotations=root.annotations)
    return Schedule(sch.mod["main"].with_body(s_tir.SBlockRealize([], True, new)))


def holds(nest: tirx.Stmt, name: str) -> bool:
    names: list[str] = []
    tvm_ffi.structural_walk(nest, (s_tir.SBlock, lambda block: names.append(str(block.name_hint))))
    return name in names
