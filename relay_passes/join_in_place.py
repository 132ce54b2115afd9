"""Tensors that are only put one behind the other, written to their places in the result at once: the copy is not made.

    y = conv(x); z = conv(x); t = concat(y, z) over all but unit axes     ->     t's memory is y's and then z's

    joined(program of concat)   ->   byte offsets of its inputs in its output, or None where it does anything else

Where a network grows a tensor layer by layer, each is the beginning of the next, and all of them are one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import relax, s_tir, tirx

ALIGN = 64  # of every tensor in an arena: a cache line, and the widest vector


@dataclass(frozen=True)
class Part:
    """A tensor that lies inside another, from byte `offset` on."""

    whole: relax.Var
    offset: int


def joined(program: tirx.PrimFunc) -> list[int] | None:
    """Where each parameter but the last begins in the last, in bytes, if the program does nothing but copy them there as they are."""
    blocks: list[s_tir.SBlock] = []
    tvm_ffi.structural_walk(program.body, (s_tir.SBlock, lambda block: blocks.append(block) if block.iter_vars else None))
    if len(blocks) != 1 or not isinstance(blocks[0].body, tirx.BufferStore) or blocks[0].init is not None:
        return None
    store, axes = blocks[0].body, [axis.var for axis in blocks[0].iter_vars]
    *sources, result = program.params
    shape = [int(extent) for extent in result.shape]
    lengths = [int(axis.dom.extent) for axis in blocks[0].iter_vars]
    if not store.buffer.same_as(result) or lengths != shape or not all(i.same_as(a) for i, a in zip(store.indices, axes, strict=True)):
        return None
    along = next((place for place, extent in enumerate(shape) if extent != 1), None)
    if along is None:
        return None
    pieces = pieces_of(store.value, axes, along)
    if pieces is None or len(pieces) != len(sources):
        return None
    row = tvm.DataType(str(result.dtype)).itemsize
    for extent in shape[along + 1 :]:
        row *= extent
    offsets, begin = [], 0
    for source, (buffer, shift, _) in zip(sources, pieces, strict=True):
        if not buffer.same_as(source) or shift != begin or source.dtype != result.dtype or begin * row % ALIGN:
            return None
        if [int(e) for e in source.shape[along + 1 :]] != shape[along + 1 :]:
            return None
        offsets.append(begin * row)
        begin += int(source.shape[along])
    ends = [end for _, _, end in pieces[:-1]]
    starts = [shift for _, shift, _ in pieces[1:]]
    return offsets if begin == shape[along] and ends == starts else None


Piece = tuple[tirx.Buffer, int, int | None]  # what is read, how far its first element lies along the axis, and where the next one begins


def pieces_of(value: tirx.Expr, axes: list[tirx.Var], along: int) -> list[Piece] | None:
    """The loads of a nest of choices on axis `along`, in order."""
    if isinstance(value, tvm.ir.TensorLoad):
        shift = 0
        for place, (index, axis) in enumerate(zip(value.indices, axes, strict=True)):
            if place == along and isinstance(index, tirx.Sub) and index.a.same_as(axis) and isinstance(index.b, tirx.IntImm):
                shift = int(index.b)
            elif not index.same_as(axis):
                return None
        return [(value.source, shift, None)]
    if not isinstance(value, tvm.ir.Call) or getattr(value.op, "name", "") != "prim.if_then_else":
        return None
    condition, late, early = value.args
    if not isinstance(condition, tirx.LE) or not isinstance(condition.a, tirx.IntImm) or not condition.b.same_as(axes[along]):
        return None
    before, behind = pieces_of(early, axes, along), pieces_of(late, axes, along)
    if before is None or behind is None:
        return None
    buffer, shift, _ = before[-1]
    return [*before[:-1], (buffer, shift, int(condition.a)), *behind]


def join_in_place(
    module: tvm.IRModule, bindings: list[relax.Binding], sizes: Mapping[relax.Var, int], root: Mapping[relax.Var, relax.Var]
) -> tuple[dict[relax.Var, Part], set[int]]:
    """Which of the tensors with known `sizes` lie inside which others, and the positions of the copies that need not be made then.

    `root` says whose memory a view is. A tensor lies in one other at most, the first that it is joined into.
    """
    parts: dict[relax.Var, Part] = {}
    dropped: set[int] = set()
    for index, binding in enumerate(bindings):
        call = binding.value
        if not isinstance(call, relax.Call) or not isinstance(call.op, tvm.ir.GlobalVar):
            continue
        *sources, result = call.args
        if not all(isinstance(argument, relax.Var) for argument in call.args) or result not in sizes:
            continue
        sources = [root.get(source, source) for source in sources]
        if len(set(sources)) != len(sources) or any(source not in sizes or source in parts for source in sources):
            continue
        program = module[call.op]
        offsets = joined(program) if isinstance(program, tirx.PrimFunc) else None
        if offsets is None:
            continue
        ends = [*offsets[1:], sizes[result]]
        if all(offset + sizes[source] == end for source, offset, end in zip(sources, offsets, ends, strict=True)):
            parts |= {source: Part(result, offset) for source, offset in zip(sources, offsets, strict=True)}
            dropped.add(index)
    return parts, dropped
