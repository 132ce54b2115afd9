"""Convolution in plain NCHW over a flat padded plane: lanes are pixels. For groups that fit no block, depthwise in NCHW, and few filters.

    for k tile in parallel:                                     (a tile of filters of one group)
      pad the planes this tile reads, unless that was done for all
      for p tile:   acc[ki, pi] = 0;  for c, r, s: acc[ki, pi] += pad[c, p + r * row + s] * broadcast(f[k, c, r, s])
      out[k, h, w] = tail(acc of h * row + w)
"""

from tvm import tirx
from tvm.s_tir import Schedule

from schedules.cpu.conv2d import find, inline_producers, inline_tail
from schedules.cpu.loops import divisors, in_registers
from schedules.machine import Machine
from schedules.space import Point, Space

BLOCK = "conv2d_plane"


def conv2d_plane(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    sch = Schedule(program)
    block = find(sch, BLOCK)
    if block is None:
        return None
    _n, filters, plane = (int(extent) for extent in sch.get(block).writes[0].source.ty.shape)
    data, weight = (region.source.ty for region in sch.get(block).reads[:2])
    group = filters * int(weight.shape[1]) // int(data.shape[1])
    lanes = machine.lanes()
    knobs = {"tile_k": divisors(group, 8), "tile_p": divisors(plane // lanes, 16)}
    points = [
        {"tile_k": k, "tile_p": p} for k in knobs["tile_k"] for p in knobs["tile_p"] if k * p <= machine.vector_registers - 4
    ]
    default = min(points, key=lambda t: (1 / t["tile_k"] + 0.5 / t["tile_p"] + max(0.0, 8 / (t["tile_k"] * t["tile_p"]) - 1), -t["tile_p"]))
    return Space(rule="conv2d_plane", knobs=knobs, default=default, apply=lambda point: apply(program, point, machine))


def apply(program: tirx.PrimFunc, point: Point, machine: Machine) -> Schedule:
    sch = Schedule(program)
    block = sch.get_sblock(BLOCK)
    inline_producers(sch, {BLOCK, "pad"})
    last = inline_tail(sch, block)
    assert last is not None, "the plane is always cropped"
    n, k, p, c, r, s = sch.get_loops(block)
    ko, ki = sch.split(k, [None, point["tile_k"]])
    po, pi, lane = sch.split(p, [None, point["tile_p"], machine.lanes()])
    sch.reorder(n, ko, po, c, r, s, pi, ki, lane)
    accumulators = sch.cache_write(block, 0, "local")
    sch.reverse_compute_at(accumulators, po, preserve_unit_loops=True)
    sch.parallel(sch.fuse(n, ko))
    in_registers(sch, [pi, ki, lane])
    *_, write_k, write_p = sch.get_loops(accumulators)
    write_vector, write_lane = sch.split(write_p, [None, machine.lanes()])
    in_registers(sch, [write_k, write_vector, write_lane])
    init = sch.decompose_reduction(block, c)
    in_registers(sch, sch.get_loops(init)[-3:])
    pad = find(sch, "pad")
    if pad is not None:
        sch.parallel(sch.fuse(*sch.get_loops(pad)[:2]))
    sch.parallel(sch.fuse(*sch.get_loops(last)[:2]))  # rows are left to LLVM's vectoriser, which masks their ends
    return sch
