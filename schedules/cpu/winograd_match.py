"""Which convolutions Winograd's transforms can compute: dense 3x3 with unit strides, channels in blocks of whole vectors."""

from collections.abc import Sequence

import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV
from tvm.sym import detect_linear_equation

from schedules.cpu.access import trivial
from schedules.cpu.winograd import Conv3x3


def conv3x3(
    program: tirx.PrimFunc, sch: Schedule, block: SBlockRV, pad: SBlockRV | None, last: SBlockRV | None, lanes: int
) -> Conv3x3 | None:
    """The convolution `block` of `program` and its tail, None where it is another kind.

    In `sch` the tail is inlined into its block `last`, None where nothing follows.
    """
    node = sch.get(block)
    data, weight = (region.source for region in node.reads[:2])
    shape = [int(extent) for extent in weight.shape]
    if len(data.shape) != 5 or len(shape) != 6 or shape[2:] != [3, 3, lanes, lanes] or int(data.shape[1]) != shape[1]:
        return None
    _n, _k, h, w, _o, _c, r, s, _ci = (axis.var for axis in node.iter_vars)
    window = loads(node.body, data)[0].indices[2:4]
    if [coefficients(index, axes) for index, axes in zip(window, ((h, r), (w, s)), strict=True)] != [[1, 1, 0]] * 2:
        return None
    top = left = 0
    if pad is not None:
        padded = sch.get(pad)
        data = padded.reads[0].source
        axes = [axis.var for axis in padded.iter_vars]
        moved = [coefficients(index, [axis]) for index, axis in zip(loads(padded.body, data)[0].indices[2:4], axes[2:4], strict=True)]
        if any(move is None or move[0] != 1 or move[1] > 0 for move in moved):
            return None
        top, left = (-move[1] for move in moved if move is not None)
    if not {data, weight} <= set(program.params):
        return None
    return with_tail(program, sch, block, last, data, weight, top, left)


def with_tail(
    program: tirx.PrimFunc,
    sch: Schedule,
    block: SBlockRV,
    last: SBlockRV | None,
    data: tirx.Buffer,
    weight: tirx.Buffer,
    top: int,
    left: int,
) -> Conv3x3 | None:
    sums = sch.get(block).writes[0].source
    if last is None:
        axes = [axis.var for axis in sch.get(block).iter_vars][:5]
        store = tirx.BufferStore(sums, sums[tuple(axes)], axes)
        extents = [int(extent) for extent in sums.shape]
    else:
        final = sch.get(last)
        if not trivial(sch, last) or len(final.iter_vars) != 5 or not isinstance(final.body, tirx.BufferStore):
            return None
        axes, store = [axis.var for axis in final.iter_vars], final.body
        extents = [int(axis.dom.extent) for axis in final.iter_vars]
        if not all(same(load.indices, axes) for load in loads(store, sums)):
            return None
    if store.buffer not in set(program.params) or len(sch.get_output_blocks("root")) != 1:
        return None
    return Conv3x3(program, data, weight, sums, store, tuple(axes), tuple(extents), top, left)


def loads(statement: tirx.Stmt, buffer: tirx.Buffer) -> list[TensorLoad]:
    found: list[TensorLoad] = []
    tvm_ffi.structural_walk(statement, (TensorLoad, lambda load: found.append(load) if load.source.same_as(buffer) else None))
    return found


def same(indices: Sequence[tirx.Expr], axes: Sequence[tirx.Var]) -> bool:
    return all(index.same_as(axis) for index, axis in zip(indices, axes, strict=True))


def coefficients(index: tirx.Expr, axes: Sequence[tirx.Var]) -> list[int] | None:
    """The steps of `index` along `axes` and what it begins with; None where it is not linear in them or has more to it."""
    parts = detect_linear_equation(index, list(axes))
    return [int(part) for part in parts] if parts and all(isinstance(part, tirx.IntImm) for part in parts) else None
