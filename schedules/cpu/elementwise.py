"""Each output element on its own: elementwise chains, broadcasts, transposes, concatenations, slices, gathers.

    t = x + b; y = max(t, 0)     ->     one nest: y = max(x + b, 0), vectors inside, cores outside

Every intermediate is computed where it is used.
"""

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ScheduleError

from schedules.cpu.access import blocks_of, is_reduction, trivial
from schedules.cpu.nest import spread
from schedules.machine import Machine
from schedules.space import Space


def elementwise(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    sch = Schedule(program)
    blocks = blocks_of(sch)
    if not blocks or any(is_reduction(sch, block) or not trivial(sch, block) for block in blocks):
        return None
    try:
        apply(sch, machine)
    except ScheduleError:  # an intermediate that cannot be inlined
        return None
    return Space(rule="elementwise", default={}, apply=lambda _point: sch.copy())


def apply(sch: Schedule, machine: Machine) -> None:
    inline_chains(sch)
    for block in blocks_of(sch):
        spread(sch, block, machine)


def inline_chains(sch: Schedule) -> None:
    """Compute every intermediate where it is used."""
    written = set(sch.mod["main"].params)
    for block in blocks_of(sch):
        if not any(region.source in written for region in sch.get(block).writes):
            sch.compute_inline(block)
