"""Depthwise convolution in blocks of channels: each lane is a channel; a tile of output pixels stays in registers.

    for co, h strip in parallel:
      for h, wo:
        acc[rows, wi] = 0
        for r, s: if row h + r is in the image: acc[:, wi] += x[h + r - 1, wo * tile + wi + s - 1] * f[r, s]      (rows, s and wi unrolled)
        out = tail(acc)

All reads of one row of the image stand together, so that each is loaded once for the columns that it touches; a tile of several `rows`
loads it once for those as well. What lies in the border is skipped, at a condition a row and one for the first and last columns; or
(`border` copied) each strip is copied into a small padded image first, which is as high as lets that stay in half of the first-level cache.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule

from schedules.cpu.access import stride
from schedules.cpu.conv2d import find, inline_producers, local_tail
from schedules.cpu.guard_border import guard_border
from schedules.cpu.loops import divisors, in_registers
from schedules.loopnest import Column, Loop, LoopNest, Operand, dim
from schedules.machine import Machine
from schedules.space import Point, Space, Value

BLOCK = "depthwise_conv2d_nchwc"
SPARE = 4  # registers for weights and pixels on their way


def depthwise(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    sch = Schedule(program)
    block = find(sch, BLOCK)
    if block is None:
        return None
    _n, _co, h, w, lanes = (int(e) for e in sch.get(block).writes[0].source.ty.shape)
    data = sch.get(block).reads[0].source.ty
    row_bytes = int(data.shape[3]) * lanes * 4 * max(1, int(data.shape[2]) // h)
    guarded = guard_border(program, BLOCK)
    strips, tiles = divisors(h, 64), divisors(w, machine.vector_registers - SPARE)
    borders = ("copied", "skipped") if guarded is not None else ("copied",)
    knobs: dict[str, Sequence[Value]] = {
        "strip": strips,
        "rows": divisors(h, 4),
        "tile_w": tiles,
        "rows_outside": (False, True),
        "border": borders,
    }
    high = max(1, machine.l1_bytes // 2 // row_bytes)
    strip = max(d for d in strips if d <= max(high, 4))
    default: Point = {
        "strip": strip,
        "rows": 1,
        "tile_w": max(d for d in tiles if d <= machine.vector_registers // 2),
        "rows_outside": h // strip >= 4,  # rows that the convolution before left in this core
        "border": borders[-1],
    }

    def legal(point: Point) -> bool:
        rows, tile = int(point["rows"]), int(point["tile_w"])
        return int(point["strip"]) % rows == 0 and (rows == 1 or rows * tile <= machine.vector_registers - SPARE)

    return Space(
        rule="depthwise",
        knobs=knobs,
        default=default,
        apply=lambda point: apply(program if point["border"] == "copied" else guarded or program, point),
        legal=legal,
        nests=lambda columns: nests(sch, columns),
    )


def apply(program: tirx.PrimFunc, point: Point) -> Schedule:
    sch = Schedule(program)
    block = sch.get_sblock(BLOCK)
    inline_producers(sch, {BLOCK, "pad"})
    last = local_tail(sch, block)
    n, c, h, w, o = sch.get_loops(last)
    ho, hi, row = sch.split(h, [None, int(point["strip"]) // int(point["rows"]), point["rows"]])
    wo, wi = sch.split(w, [None, point["tile_w"]])
    order = [n, ho, c] if point["rows_outside"] else [n, c, ho]
    sch.reorder(*order, hi, wo, row, wi, o)
    outer = sch.fuse(*order)
    sch.parallel(outer)
    sch.compute_at(block, wo, preserve_unit_loops=True)
    pad = find(sch, "pad")
    if pad is not None:
        sch.compute_at(pad, outer, preserve_unit_loops=True)
        sch.vectorize(sch.get_loops(pad)[-1])
    *unit, rows, columns, lane, r, s = sch.get_loops(block)[3:]
    sch.reorder(r, *unit, rows, s, columns, lane)
    in_registers(sch, [*unit, rows, s, columns, lane])
    init = sch.decompose_reduction(block, r)
    sch.unroll(r)
    in_registers(sch, sch.get_loops(init)[3:])
    in_registers(sch, [row, wi, o])
    return sch


def nests(sch: Schedule, columns: Mapping[str, str | bool | Column]) -> Sequence[LoopNest]:
    """The sum, and before it the copy of the image where there is one."""
    block = sch.get(sch.get_sblock(BLOCK))
    n, co, h, w, lanes = (int(e) for e in block.writes[0].source.ty.shape)
    kernel_h, kernel_w = (int(axis.dom.extent) for axis in block.iter_vars[-2:])
    _b, _q, v_h, v_w, _o, v_r, v_s = (axis.var for axis in block.iter_vars)
    at_h, at_w = (block.reads[0].region[axis].min for axis in (2, 3))
    step_h, step_w = stride(at_h, v_h) or 1, stride(at_w, v_w) or 1
    step_r, step_s = stride(at_h, v_r) or 1, stride(at_w, v_s) or 1
    strip, rows, tile = (np.asarray(columns[name]) for name in ("strip", "rows", "tile_w"))
    grid = [Loop("ho", h // strip, "parallel"), Loop("co", co, "parallel")]
    outer = [Loop("n", n, "parallel"), *(grid if columns["rows_outside"] else grid[::-1])]
    pixels = (
        dim(n=1),
        dim(co=1),
        dim(ho=strip * step_h, hi=rows * step_h, row=step_h, r=step_r),
        dim(wo=tile * step_w, wi=step_w, s=step_s),
        dim(lane=1),
    )
    total = LoopNest(
        loops=(
            *outer,
            Loop("hi", strip // rows),
            Loop("wo", w // tile),
            Loop("r", kernel_h, reduces=True),
            Loop("s", kernel_w, reduces=True),
            Loop("row", rows, "unrolled"),
            Loop("wi", tile, "unrolled"),
            Loop("lane", lanes, "vector"),
        ),
        operands=(
            Operand("x", 4, "read", pixels),
            Operand("w", 4, "read", (dim(co=1), dim(r=1), dim(s=1), dim(lane=1))),
            Operand("y", 4, "accumulate", (dim(n=1), dim(co=1), dim(ho=strip, hi=rows, row=1), dim(wo=tile, wi=1), dim(lane=1))),
        ),
        steps=n * co * h * w * lanes * kernel_h * kernel_w,
        numbers={"guards": h * w / tile * kernel_h * n * co * (columns["border"] == "skipped")},
    )
    if columns["border"] == "skipped" or find(sch, "pad") is None:
        return [total]
    high, wide = (strip - 1) * step_h + (kernel_h - 1) * step_r + 1, (w - 1) * step_w + (kernel_w - 1) * step_s + 1
    image = (dim(n=1), dim(co=1), dim(ho=strip * step_h, i=1), dim(j=1), dim(lane=1))
    copy = LoopNest(
        loops=(*outer, Loop("i", high), Loop("j", wide), Loop("lane", lanes, "vector")),
        operands=(Operand("x", 4, "read", image), Operand("pad", 4, "write", (dim(i=1), dim(j=1), dim(lane=1)))),
        steps=n * co * (h // strip) * high * wide * lanes,
    )
    return [total, copy]
