"""Programs in which each output element is computed on its own: elementwise chains, broadcasts, transposes, concatenations, slices, gathers.

    t = x + b; y = max(t, 0)     ->     one nest: y = max(x + b, 0), vectors inside, cores outside
"""

from tvm import tirx
from tvm.s_tir import Schedule

from schedules.cpu.access import blocks_of, is_reduction, trivial
from schedules.cpu.nest import spread
from schedules.machine import Machine
from schedules.space import Point, Space


def elementwise(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    sch = Schedule(program)
    blocks = blocks_of(sch)
    if not blocks or any(is_reduction(sch, block) or not trivial(sch, block) for block in blocks):
        return None
    return Space(rule="elementwise", default={}, apply=lambda point: apply(program, machine, point))


def apply(program: tirx.PrimFunc, machine: Machine, _point: Point) -> Schedule:
    sch = Schedule(program)
    inline_chains(sch)
    for block in blocks_of(sch):
        spread(sch, block, machine)
    return sch


def inline_chains(sch: Schedule) -> None:
    """Compute every intermediate where it is used."""
    written = set(sch.mod["main"].params)
    for block in blocks_of(sch):
        if not any(region.source in written for region in sch.get(block).writes):
            sch.compute_inline(block)
