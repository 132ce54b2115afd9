"""The last rule: takes any program and makes one nest of it, as far as that computes nothing twice.

    pad[h, w, c] = x[h - 1, w - 1, c] if inside else 0        for h, w, c in steps of `channels`:
    acc[h, w, c] += pad[h + r, w + s, c]               ->         acc0 ... acc3 = 0
    y[h, w, c] = clip(acc[h, w, c] // 9)                          for r, s: acc0 += x[...] if inside else 0; ...
                                                                  y[h, w, c] = clip(acc0 // 9); ...

Cheap intermediates are computed where they are used. A reduction is computed just before its result is used, in variables: one, or
where memory runs along the results, `channels` at a time. Short bodies get `unroll` iterations in one.
"""

from collections.abc import Mapping
from functools import partial
from math import prod

import numpy as np
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV, ScheduleError

from schedules.cpu.access import accesses, blocks_of, is_reduce_loop, is_reduction, trivial
from schedules.cpu.loops import extent
from schedules.cpu.nest import fuse_loops, split_digits
from schedules.loopnest import Column, LoopNest
from schedules.machine import Machine
from schedules.mcu.loops import attempt, costly, instances, is_output, nearest_divisor, unroll_in_c
from schedules.mcu.nests import tiles
from schedules.space import Point, Space

WORTH_UNROLLING = 32  # iterations; shorter loops save less than the code that it takes


def fallback(program: tirx.PrimFunc, machine: Machine) -> Space:
    return Space(
        rule="fallback",
        knobs={"channels": (1, 2, 4, 8), "unroll": (1, 2, 4, 8)},
        default={"channels": 4, "unroll": 8},
        apply=lambda point: apply(program, point),
        nests=lambda columns: [nest(program, columns)],
    )


def nest(program: tirx.PrimFunc, columns: Mapping[str, str | bool | Column]) -> LoopNest:
    """The stage with most iterations, results by what is summed up in each."""
    sch = Schedule(program)
    stages = []
    for block in blocks_of(sch):
        loops, kinds = sch.get_loops(block), is_reduce_loop(sch, block)
        sizes = [extent(sch, loop) or 1 for loop in loops]
        reduced = prod(size for size, kind in zip(sizes, kinds, strict=True) if kind)
        stages.append((prod(sizes), reduced))
    total, reduced = max(stages, default=(1, 1))
    return tiles(1, np.asarray(columns["channels"]), (1, total // reduced), reduced, 1, np.asarray(columns["unroll"]))


def apply(program: tirx.PrimFunc, point: Point) -> Schedule:
    sch = Schedule(program)
    if not all(trivial(sch, block) for block in blocks_of(sch)):
        return sch
    channels, unroll = int(point["channels"]), int(point["unroll"])
    sch = inline_cheap(sch)
    for name in names(sch):
        sch = attempt(sch, name, in_variables)
    outputs = [name for name in names(sch) if is_output(sch, sch.get_sblock(name))]
    tiled = False
    if len(outputs) == 1:
        tiled, sch = tile_channels(sch, outputs[0], channels)
    for name in reversed(names(sch)):
        sch = compute_near(sch, name, tiled)
    for name in names(sch):
        sch = attempt(sch, name, partial(finish, tiled=tiled, unroll=unroll))
    return sch


def names(sch: Schedule) -> list[str]:
    return [str(sch.get(block).name_hint) for block in blocks_of(sch)]


def inline_cheap(sch: Schedule) -> Schedule:
    """Inline stages without reductions, but neither work that would then be done twice nor what is the same for a whole row."""
    for name in names(sch):
        block = sch.get_sblock(name)
        consumers = sch.get_consumers(block)
        if is_reduction(sch, block) or is_output(sch, block) or not consumers:
            continue
        repeated = len(consumers) > 1 or any(instances(sch, consumer) > instances(sch, block) for consumer in consumers)
        if not (repeated and (costly(sch, block) or behind_reduction(sch, block))):
            sch = attempt(sch, name, Schedule.compute_inline)
    return sch


def behind_reduction(sch: Schedule, block: SBlockRV) -> bool:
    return any(is_reduction(sch, producer) for producer in sch.get_producers(block))


def in_variables(sch: Schedule, block: SBlockRV) -> None:
    """Let the output of a reduction be written once, from a variable that another block sums up in."""
    if is_reduction(sch, block) and is_output(sch, block):
        sch.cache_write(block, 0, "local")


def tile_channels(sch: Schedule, output: str, channels: int) -> tuple[bool, Schedule]:
    """Split the last loop of `output` where reductions before it walk through memory along that loop, and only along it."""
    block = sch.get_sblock(output)
    reductions = [other for other in blocks_of(sch) if is_reduction(sch, other)]
    loops = sch.get_loops(block)
    if not reductions or not loops or not all(along_channels(sch, other, len(loops)) for other in reductions):
        return False, sch
    tile = nearest_divisor(extent(sch, loops[-1]) or 1, channels)
    if tile == 1:
        return False, sch
    sch.split(loops[-1], [None, tile])
    return True, sch


def along_channels(sch: Schedule, block: SBlockRV, depth: int) -> bool:
    """Whether loads of a reduction are contiguous in the last of its `depth` outer loops, and not in those that it sums over."""
    kinds = is_reduce_loop(sch, block)
    if len(sch.get(block).writes) != 1 or kinds.count(False) != depth or any(kinds[:depth]):
        return False
    loads = [access for access in accesses(sch, block) if not access.stored and access.strides[depth - 1] is not None]
    return any(load.strides[depth - 1] == 1 for load in loads) and not any(1 in load.strides[depth:] for load in loads)


def compute_near(sch: Schedule, name: str, tiled: bool) -> Schedule:
    """Compute a stage in the innermost loop of its consumer in which nothing of it is computed twice."""
    block = sch.get_sblock(name)
    consumers = sch.get_consumers(block)
    if is_output(sch, block) or not consumers:
        return sch
    before = instances(sch, block)
    around = sch.get_loops(consumers[0])
    if tiled and is_reduction(sch, block) and is_output(sch, consumers[0]):
        around = around[:-1]
    for depth in reversed(range(len(around))):
        changed = sch.copy()
        try:
            changed.compute_at(changed.get_sblock(name), changed.get_loops(changed.get_consumers(changed.get_sblock(name))[0])[depth])
        except ScheduleError:
            continue
        if instances(changed, changed.get_sblock(name)) <= before:
            return changed
    return sch


def finish(sch: Schedule, block: SBlockRV, tiled: bool, unroll: int) -> None:
    """Order, unroll and initialise the loops of one stage."""
    loops, kinds = sch.get_loops(block), is_reduce_loop(sch, block)
    short = not costly(sch, block)
    if is_reduction(sch, block):
        others = around_others(sch, block)
        own = [not any(same(sch, loop, other) for other in others) for loop in loops]
        results = [loop for loop, kind, alone in zip(loops, kinds, own, strict=True) if alone and not kind]
        reduced = [loop for loop, kind in zip(loops, kinds, strict=True) if kind]
        if not reduced:
            return
        sch.reorder(*reduced, *results)
        for loop in results if tiled else []:
            sch.unroll(loop)
        init = sch.decompose_reduction(block, reduced[0])
        for loop in sch.get_loops(init)[-len(results) :] if results and tiled else []:
            sch.unroll(loop)
        length = extent(sch, reduced[-1]) or 1
        if not results and short and length >= WORTH_UNROLLING:
            unroll_in_c(sch, reduced[-1], nearest_divisor(length, unroll))
        return
    if tiled and is_output(sch, block):
        sch.unroll(loops[-1])
        return
    if len(blocks_of(sch)) == 1:
        split_digits(sch, block, 0)
        loops = fuse_loops(sch, block, 0)
    alone = loops and not any(same(sch, loops[-1], loop) for loop in around_others(sch, block))
    if alone and short and not moves(sch, block) and (length := extent(sch, loops[-1]) or 1) >= WORTH_UNROLLING:
        unroll_in_c(sch, loops[-1], nearest_divisor(length, unroll))


def moves(sch: Schedule, block: SBlockRV) -> bool:
    """Whether a stage only moves values, or chooses which: C has a function for that."""
    body = sch.get(block).body
    if not isinstance(body, tirx.BufferStore):
        return False
    value = body.value
    while getattr(getattr(value, "op", None), "name", "") == "prim.if_then_else":
        value = value.args[1]
    return isinstance(value, TensorLoad)


def around_others(sch: Schedule, block: SBlockRV) -> list[LoopRV]:
    """The loops around other blocks than `block`."""
    others = [other for other in blocks_of(sch) if not sch.get(other).same_as(sch.get(block))]
    return [loop for other in others for loop in sch.get_loops(other)]


def same(sch: Schedule, one: LoopRV, other: LoopRV) -> bool:
    return bool(sch.get(one).loop_var.same_as(sch.get(other).loop_var))
