"""The last rule: takes any program, one loop nest at a time, and changes only what TensorIR proves legal.

    for i: y[i] = x[p[i]]                    ->     as the elementwise rule would
    for i, k: (v[i], a[i]) = argmax(...)     ->     for i in parallel: the reduction as it is
    anything else                            ->     as it was

Correct first; `stackc profile` marks every program that ends here.
"""

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV, ScheduleError

from schedules.cpu.access import blocks_of, is_reduction, trivial
from schedules.cpu.loops import extent
from schedules.cpu.nest import PARALLEL_WORK, spread, work
from schedules.machine import Machine
from schedules.space import Point, Space


def fallback(program: tirx.PrimFunc, machine: Machine) -> Space:
    return Space(rule="fallback", default={}, apply=lambda point: apply(program, machine, point))


def apply(program: tirx.PrimFunc, machine: Machine, _point: Point) -> Schedule:
    sch = Schedule(program)
    for name in [str(sch.get(block).name_hint) for block in blocks_of(sch)]:
        attempt = sch.copy()
        try:
            improve(attempt, attempt.get_sblock(name), machine)
        except ScheduleError:
            continue  # not legal here: this nest stays as it was
        sch = attempt
    return sch


def improve(sch: Schedule, block: SBlockRV, machine: Machine) -> None:
    if not trivial(sch, block):
        return
    if not is_reduction(sch, block):
        spread(sch, block, machine)
        return
    axes = sch.get(block).iter_vars
    outer = [loop for loop, axis in zip(sch.get_loops(block), axes, strict=True) if axis.iter_type == tirx.IterVar.DataPar]
    leads = all(axis.iter_type == tirx.IterVar.DataPar for axis in axes[: len(outer)])
    if outer and leads and work(sch, block) >= PARALLEL_WORK and machine.cores > 1:
        rows = sch.fuse(*outer) if len(outer) > 1 else outer[0]
        if (extent(sch, rows) or 1) > 1:
            sch.parallel(rows)
