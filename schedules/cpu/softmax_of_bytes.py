"""Softmax of bytes by a table of exponentials, its sums in the order of the source, several rows side by side.

    for i, k: m[i] = max(m[i], x[i, k])                          for i in parallel, by 8:
    for i, k: e[i, k] = table[x[i, k] + 255 - m[i]]      ->         m = max of x[i, :];  e[:] = table[...]      (gathers)
    for i, k: s[i] += e[i, k]                                       for k: for 8 rows: s[i] += e[i, k]          (8 chains of additions)
    for i, k: y[i, k] = e[i, k] * c / s[i]                          y[i, :] = e * c / s

A sum that must not be reordered is one chain of dependent additions a row; rows are independent.
"""

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ScheduleError

from schedules.cpu.access import blocks_of, trivial
from schedules.cpu.loops import divisors, extent
from schedules.cpu.nest import PARALLEL_WORK, work
from schedules.cpu.reduction import stage
from schedules.machine import Machine
from schedules.space import Point, Space

TOP, SUM = "softmax_max", "softmax_sum"
STAGES = (TOP, "softmax_exp", SUM)
ROWS = 8


def softmax_of_bytes(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    sch = Schedule(program)
    names = [str(sch.get(block).name_hint) for block in blocks_of(sch)]
    if not set(STAGES) <= set(names) or not all(trivial(sch, block) for block in blocks_of(sch)):
        return None
    if "int" not in str(sch.get(sch.get_sblock(TOP)).writes[0].source.dtype):  # softmax of floats has stages of the same names
        return None
    try:
        apply(program, machine, {})
    except ScheduleError:  # a tail of another shape
        return None
    return Space("softmax_of_bytes", default={}, apply=lambda point: apply(program, machine, point))


def apply(program: tirx.PrimFunc, machine: Machine, _point: Point) -> Schedule:
    sch = Schedule(program)
    (last,) = sch.get_output_blocks("root")
    for block in blocks_of(sch):
        if str(sch.get(block).name_hint) not in STAGES and sch.get_consumers(block):
            sch.compute_inline(block)
    total = sch.get_sblock(SUM)
    amount = work(sch, last)
    *outer, innermost, _ = sch.get_loops(last)
    several, _ = sch.split(innermost, [None, max(divisors(extent(sch, innermost) or 1, ROWS))])
    block_of_rows = sch.fuse(*outer, several) if outer else several
    for block in reversed([block for block in blocks_of(sch) if sch.get_consumers(block)]):
        sch.compute_at(block, block_of_rows, preserve_unit_loops=True)
    if amount * ROWS >= PARALLEL_WORK and machine.cores > 1:
        sch.parallel(block_of_rows)
    for block in sch.get_child_blocks(block_of_rows):
        if str(sch.get(block).name_hint) != SUM:
            stage(sch, block, 1, machine, 1, cores=False)
    *_, each, k = sch.get_loops(total)
    sch.reorder(k, each)
    sch.decompose_reduction(total, k)
    sch.unroll(each)
    return sch
