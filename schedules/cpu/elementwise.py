"""Each output element on its own: elementwise chains, broadcasts, transposes, concatenations, slices, gathers.

    t = x + b; y = max(t, 0)     ->     one nest: y = max(x + b, 0), vectors inside, cores outside

Every intermediate is computed where it is used. The nest is shared out where there is enough work to pay for it, which candidates that are
measured on one core could not tell; one iteration computes `vectors`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ScheduleError

from schedules.cpu.access import blocks_of, is_reduction, trivial
from schedules.cpu.flat_addresses import flat_addresses
from schedules.cpu.nest import CHOICE_WORK, PARALLEL_WORK, spread, work
from schedules.cpu.stage_nest import by_work, stage_nest
from schedules.loopnest import Column, LoopNest
from schedules.machine import Machine
from schedules.space import Point, Space


def elementwise(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    sch = Schedule(program)
    blocks = blocks_of(sch)
    if not blocks or any(is_reduction(sch, block) or not trivial(sch, block) for block in blocks):
        return None
    default: Point = {"vectors": 1}
    try:
        scheduled = apply(program, machine, default)
    except ScheduleError:  # an intermediate that cannot be inlined
        return None
    inlined = sch.copy()
    inline_chains(inlined)

    def nests(columns: Mapping[str, str | bool | Column]) -> Sequence[LoopNest]:
        vectors = np.asarray(columns["vectors"])
        return by_work([stage_nest(inlined, block, machine, total >= PARALLEL_WORK, vectors) for block in blocks_of(inlined)])

    total = sum(work(inlined, block) for block in blocks_of(inlined))
    return Space(
        rule="elementwise",
        knobs={"vectors": (1, 2, 4) if total >= CHOICE_WORK else (1,)},
        default=default,
        apply=lambda point: scheduled.copy() if point == default else apply(program, machine, point),
        nests=nests,
    )


def apply(program: tirx.PrimFunc, machine: Machine, point: Point) -> Schedule:
    sch = Schedule(program)
    inline_chains(sch)
    for block in blocks_of(sch):
        spread(sch, block, machine, vectors=int(point["vectors"]))
    return flat_addresses(sch)


def inline_chains(sch: Schedule) -> None:
    """Compute every intermediate where it is used."""
    written = set(sch.mod["main"].params)
    for block in blocks_of(sch):
        if not any(region.source in written for region in sch.get(block).writes):
            sch.compute_inline(block)
