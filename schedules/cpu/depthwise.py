"""Depthwise convolution in blocks of channels: each lane is a channel; a strip of output pixels stays in registers.

    for co, h strip in parallel:
      pad rows of this strip into a small buffer
      for h, wo:   acc[wi] = 0;  for r, s (unrolled): acc[wi] += pad[h + r, wo * tile + wi + s] * f[r, s];  out = tail(acc)

The strip is as high as lets its padded input stay in half of the first-level cache.
"""

from tvm import tirx
from tvm.s_tir import Schedule

from schedules.cpu.conv2d import find, inline_producers, local_tail
from schedules.cpu.loops import divisors, in_registers
from schedules.machine import Machine
from schedules.space import Point, Space

BLOCK = "depthwise_conv2d_nchwc"


def depthwise(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    sch = Schedule(program)
    block = find(sch, BLOCK)
    if block is None:
        return None
    _n, _co, h, w, lanes = (int(e) for e in sch.get(block).writes[0].source.ty.shape)
    data = sch.get(block).reads[0].source.ty
    row_bytes = int(data.shape[3]) * lanes * 4 * max(1, int(data.shape[2]) // h)
    knobs = {"strip": divisors(h, 64), "tile_w": divisors(w, 28), "rows_outside": (False, True)}
    rows = max(1, machine.l1_bytes // 2 // row_bytes)
    fitting = [d for d in knobs["strip"] if d <= max(rows, 4)]
    tiles = [d for d in knobs["tile_w"] if d <= machine.vector_registers // 2]
    strip = max(fitting)
    default = {"strip": strip, "tile_w": max(tiles), "rows_outside": h // strip >= 4}  # rows that the convolution before left in this core
    return Space(rule="depthwise", knobs=knobs, default=default, apply=lambda point: apply(program, point))


def apply(program: tirx.PrimFunc, point: Point) -> Schedule:
    sch = Schedule(program)
    block = sch.get_sblock(BLOCK)
    inline_producers(sch, {BLOCK, "pad"})
    last = local_tail(sch, block)
    n, c, h, w, o = sch.get_loops(last)
    ho, hi = sch.split(h, [None, point["strip"]])
    wo, wi = sch.split(w, [None, point["tile_w"]])
    order = [n, ho, c] if point["rows_outside"] else [n, c, ho]
    sch.reorder(*order, hi, wo, wi, o)
    outer = sch.fuse(*order)
    sch.parallel(outer)
    sch.compute_at(block, wo, preserve_unit_loops=True)
    pad = find(sch, "pad")
    if pad is not None:
        sch.compute_at(pad, outer, preserve_unit_loops=True)
        sch.vectorize(sch.get_loops(pad)[-1])
    loops = sch.get_loops(block)[3:]
    spatial, (r, s) = loops[:-2], loops[-2:]
    sch.reorder(r, s, *spatial)
    in_registers(sch, spatial)
    init = sch.decompose_reduction(block, r)
    sch.unroll(r)
    sch.unroll(s)
    in_registers(sch, sch.get_loops(init)[3:])
    in_registers(sch, [wi, o])
    return sch
