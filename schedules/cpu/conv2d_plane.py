"""Convolution in plain NCHW over a flat padded plane: lanes are pixels. For groups that fit no block, depthwise in NCHW, and few filters.

for k tile in parallel:                                     (a tile of filters of one group)
  pad the planes this tile reads, unless that was done for all
  for p tile:   acc[ki, pi] = 0;  for c, r, s: acc[ki, pi] += pad[c, p + r * row + s] * broadcast(f[k, c, r, s])
  out[k, h, w] = tail(acc of h * row + w)
"""

from tvm import tirx
from tvm.s_tir import Schedule

from schedules.cpu.conv2d import find, inline_producers, inline_tail
from schedules.cpu.conv2d_nests import plane_nests
from schedules.cpu.loops import divisors, extent, in_registers
from schedules.machine import Machine
from schedules.space import Point, Space

BLOCK = "conv2d_plane"
SHORT = 64  # rows up to this long become one vector, which LLVM splits into legal ones


def conv2d_plane(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    sch = Schedule(program)
    block = find(sch, BLOCK)
    if block is None:
        return None
    _n, filters, plane = (int(extent) for extent in sch.get(block).writes[0].source.ty.shape)
    data, weight = (region.source.ty for region in sch.get(block).reads[:2])
    group = filters * int(weight.shape[1]) // int(data.shape[1])
    lanes = machine.lanes()
    knobs = {"tile_k": divisors(group, 20), "tile_p": divisors(plane // lanes, 16)}
    points = [{"tile_k": k, "tile_p": p} for k in knobs["tile_k"] for p in knobs["tile_p"] if k * p <= machine.vector_registers - 4]
    default = min(points, key=lambda point: cost(point["tile_k"], point["tile_p"]))
    return Space(
        rule="conv2d_plane",
        knobs=knobs,
        default=default,
        apply=lambda point: apply(program, point, machine),
        nests=lambda columns: plane_nests(program, BLOCK, lanes, columns),
    )


def cost(tile_k: int, tile_p: int) -> float:
    """Loads for each multiply-add. Pixels are rarely aligned, so theirs count more than a broadcast weight; eight sums hide the latency."""
    return 2.5 / tile_k + 1 / tile_p + max(0.0, 8 / (tile_k * tile_p) - 1)


def apply(program: tirx.PrimFunc, point: Point, machine: Machine) -> Schedule:
    sch = Schedule(program)
    block = sch.get_sblock(BLOCK)
    row = int(sch.get(block).reads[0].source.ty.shape[3])
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
    n, k, h, w = sch.get_loops(last)
    sch.parallel(sch.fuse(n, k))
    width = extent(sch, w)
    if row == width:
        sch.fuse(h, w)  # no columns to cut: LLVM makes one run of vectors of it
    elif width is not None and width <= SHORT:
        sch.vectorize(w)  # left alone, LLVM gathers over the rows instead
    pad = find(sch, "pad")
    if pad is not None:
        sch.parallel(sch.fuse(*sch.get_loops(pad)[:2]))
    return sch
