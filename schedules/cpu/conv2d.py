"""Convolution in blocks of channels: a tile of output pixels x blocks of filters stays in vector registers.

    for ko, h in parallel:                          for ko, h in parallel:
      for w, k, co, r, s, ci:                 ->      for wo:
        out[ko, h, w, k] += x[...] * f[...]             acc[hi, ki, wi, 0:lanes] = 0
                                                        for co, r, s, ci:  acc[...] += broadcast(x) * f[ki, ..., 0:lanes]     (unrolled)
                                                        out[...] = relu(acc + bias)                                         (fused tail)

A step of the reduction loads `tile_k` vectors of weights and broadcasts `tile_h * tile_w` pixels for their product in multiply-adds,
so the default is the tile with fewest loads for each multiply-add among those whose accumulators, weights and one broadcast fit the
registers. Pixels are the outer of the unrolled loops: the other way round LLVM keeps every broadcast alive and spills (14 x 2 reaches
85 instead of 170 GFLOP/s).

Rows are the outer loop where all weights stay in the second level: a core then reads the rows that it wrote itself in the layer before.
Otherwise filters are, so that each weight comes from memory once.

Others compute the same by another `algorithm`, whose tiles take the same knobs: dense 3x3 layers with unit strides by one of Winograd's
(winograd_space.py), dense ones without a border as products of matrices (conv_product.py).
"""

from collections.abc import Mapping, Sequence
from math import prod

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.conv2d_nests import nests
from schedules.cpu.conv_product import ConvProduct, conv_product
from schedules.cpu.loops import divisors, extent, in_registers
from schedules.cpu.winograd_match import conv3x3
from schedules.cpu.winograd_space import Winograd
from schedules.loopnest import Column, LoopNest
from schedules.machine import Machine
from schedules.space import Point, Space, Value

BLOCK = "conv2d_nchwc"
DIRECT = "direct"


def find(sch: Schedule, name: str) -> SBlockRV | None:
    """The block called `name`, None where the program has none."""
    children = sch.get_child_blocks(sch.get_sblock("root"))
    return next((block for block in children if str(sch.get(block).name_hint) == name), None)


def inline_tail(sch: Schedule, block: SBlockRV) -> SBlockRV | None:
    """Inline the elementwise stages behind `block` into the last of them, which is returned; None where nothing follows."""
    stages: list[SBlockRV] = []
    seen = {str(sch.get(block).name_hint)}
    ready = list(sch.get_consumers(block))
    while ready:  # breadth first: an activation such as x * clip(x + 3) reads the sum twice
        stage = ready.pop(0)
        if str(sch.get(stage).name_hint) not in seen:
            seen.add(str(sch.get(stage).name_hint))
            stages.append(stage)
            ready.extend(sch.get_consumers(stage))
    last = next((stage for stage in stages if not sch.get_consumers(stage)), None)
    for stage in stages:
        if sch.get_consumers(stage):
            sch.compute_inline(stage)
    return last


def local_tail(sch: Schedule, block: SBlockRV) -> SBlockRV:
    """The stage that stores the result of `block`, which itself stays in registers: its inlined tail, or a copy."""
    last = inline_tail(sch, block)
    if last is None:
        return sch.cache_write(block, 0, "local")
    sch.set_scope(block, 0, "local")
    return last


def inline_producers(sch: Schedule, keep: set[str]) -> None:
    """Inline every elementwise stage ahead of the blocks in `keep`, such as a reshaped or broadcast operand of the tail."""
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        name = str(sch.get(block).name_hint)
        if name not in keep and sch.get_consumers(block) and not sch.get_producers(block):
            sch.compute_inline(block)


def score(tile_h: int, tile_w: int, tile_k: int, registers: int) -> float:
    """Vector loads for each multiply-add, higher is worse; spilling and too few independent sums weigh more than any load."""
    sums = tile_h * tile_w * tile_k
    loads = (tile_h * tile_w + 3 * tile_k) / sums  # weights stream from the second level; pixels are in the first
    spills = max(0, sums + tile_k + 2 - registers)  # two broadcasts under way
    latency = max(0.0, 8 / sums - 1)  # two units, four cycles each
    return loads + 4 * spills + latency


def conv2d(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    sch = Schedule(program)
    block = find(sch, BLOCK)
    if block is None:
        return None
    _n, k, h, w, _lanes = (int(e) for e in sch.get(block).writes[0].source.ty.shape)
    groups = group_blocks(sch, block, k)
    registers = machine.vector_registers
    weight_bytes = 4 * prod(int(e) for e in sch.get(block).reads[1].source.ty.shape)
    knobs = {
        "tile_k": divisors(groups, 8),
        "tile_h": divisors(h, 8),
        "tile_w": divisors(w, 32),
        "rows_outside": (False, True),
    }

    def legal(point: Point) -> bool:
        return int(point["tile_h"]) * int(point["tile_w"]) * int(point["tile_k"]) <= registers

    points = [
        {"tile_k": tk, "tile_h": th, "tile_w": tw, "rows_outside": weight_bytes <= machine.l2_bytes // 2}
        for tk in knobs["tile_k"]
        for th in knobs["tile_h"]
        for tw in knobs["tile_w"]
    ]
    default = min(filter(legal, points), key=lambda p: (score(p["tile_h"], p["tile_w"], p["tile_k"], registers), p["tile_h"], -p["tile_w"]))
    direct = Space(
        rule="conv2d",
        knobs=knobs,
        default=default,
        apply=lambda point: apply(program, point),
        legal=legal,
        nests=lambda columns: nests(program, BLOCK, columns),
    )
    other = other_algorithm(program, machine)
    return direct if other is None else with_other(direct, other)


def other_algorithm(program: tirx.PrimFunc, machine: Machine) -> Winograd | ConvProduct | None:
    """What else may compute it, None where nothing does."""
    sch = Schedule(program)
    block, pad = sch.get_sblock(BLOCK), find(sch, "pad")
    inline_producers(sch, {BLOCK, "pad"})
    last = inline_tail(sch, block)
    conv = conv3x3(program, sch, block, pad, last, machine.lanes())
    return conv_product(program, sch, block, pad, last, machine) if conv is None else Winograd(conv, machine)


def with_other(direct: Space, other: Winograd | ConvProduct) -> Space:
    """The space of both; their tiles share knobs, and the direct loops have the first value of those that are not theirs."""
    theirs = other.knobs
    plain: dict[str, Value] = {
        "algorithm": DIRECT,
        **{name: theirs[name][0] for name in theirs if name not in (*direct.knobs, "algorithm")},
    }
    both: dict[str, Sequence[Value]] = {name: sorted({*values, *theirs[name]}) for name, values in direct.knobs.items()}
    both |= {name: (DIRECT, *theirs[name]) if name == "algorithm" else theirs[name] for name in plain}

    def legal(point: Point) -> bool:
        if point["algorithm"] != DIRECT:
            return other.holds(point)
        return (
            all(point[name] in values for name, values in direct.knobs.items()) and direct.legal(point) and plain.items() <= point.items()
        )

    def nests_of_either(columns: Mapping[str, str | bool | Column]) -> Sequence[LoopNest]:
        assert direct.nests
        return direct.nests(columns) if columns["algorithm"] == DIRECT else other.nests(columns)

    otherwise = {**direct.default, **plain}
    return Space(
        rule=direct.rule,
        knobs=both,
        default=other.default() or otherwise,
        apply=lambda point: direct.apply(point) if point["algorithm"] == DIRECT else other.apply(point),
        pack=lambda point, constants: list(constants) if point["algorithm"] == DIRECT else other.pack(point, constants),
        otherwise=otherwise,
        in_place=True,
        legal=legal,
        nests=nests_of_either,
    )


def group_blocks(sch: Schedule, block: SBlockRV, k: int) -> int:
    """Blocks of filters that share their input: all, or one group's. A tile must not straddle two groups."""
    reads = [region.source.ty for region in sch.get(block).reads]
    data, weight = reads[0], reads[1]
    if len(data.shape) != 5:
        return k
    return k * int(weight.shape[1]) // int(data.shape[1])


def apply(program: tirx.PrimFunc, point: Point) -> Schedule:
    sch = Schedule(program)
    block = sch.get_sblock(BLOCK)
    inline_producers(sch, {BLOCK, "pad"})
    last = local_tail(sch, block) if find(sch, "crop") is None else copied_tail(sch, block)
    n, k, h, w, o = sch.get_loops(last)
    ko, ki = sch.split(k, [None, point["tile_k"]])
    ho, hi = sch.split(h, [None, point["tile_h"]])
    wo, wi = sch.split(w, [None, point["tile_w"]])
    order = [n, ho, ko] if point["rows_outside"] else [n, ko, ho]
    sch.reorder(*order, wo, hi, ki, wi, o)
    outer = sch.fuse(*order)
    sch.parallel(outer)
    sch.compute_at(block, wo, preserve_unit_loops=True)
    loops = sch.get_loops(block)[2:]
    spatial, (co, r, s, ci) = loops[:-4], loops[-4:]
    *unit, k_tile, h_tile, w_tile, lane = spatial
    sch.reorder(co, r, s, ci, *unit, h_tile, w_tile, k_tile, lane)
    in_registers(sch, [*unit, h_tile, w_tile, k_tile, lane])
    init = sch.decompose_reduction(block, co)
    in_registers(sch, sch.get_loops(init)[2:])
    in_registers(sch, [hi, ki, wi, o])
    pad = find(sch, "pad")
    if pad is not None:
        schedule_pad(sch, pad)
    return sch


def copied_tail(sch: Schedule, block: SBlockRV) -> SBlockRV:
    """The copy that stores all columns of `block`; a nest of its own behind it cuts off the added ones and computes the tail."""
    cut = inline_tail(sch, block)
    assert cut is not None, "the crop follows"
    n, k, h, _w, o = sch.get_loops(cut)
    sch.parallel(sch.fuse(n, k, h))
    sch.vectorize(o)
    return sch.cache_write(block, 0, "local")


def schedule_pad(sch: Schedule, pad: SBlockRV) -> None:
    loops = sch.get_loops(pad)
    *outer, inner = loops
    if (extent(sch, inner) or 0) <= 64:
        sch.vectorize(inner)
    sch.parallel(sch.fuse(*outer[:3]) if len(outer) > 3 else sch.fuse(*outer[:2]))
