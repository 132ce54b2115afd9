"""One stage of elementwise work or reduction as a loop nest for the cost model, out of the block as it is before it is scheduled.

for i, k: s[i] += x[i, k]  with `vectors` of 4   ->   i in parallel, k in steps of 64, 4 unrolled, 16 lanes; x: {i: K, k: 64, ...}
"""

from typing import Literal

import numpy as np
import tvm
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.access import accesses, is_reduce_loop, is_reduction
from schedules.cpu.loops import extent
from schedules.cpu.nest import work
from schedules.loopnest import Column, Loop, LoopNest, Number, Operand
from schedules.machine import Machine

Role = Literal["read", "write", "accumulate"]


def stage_nest(sch: Schedule, block: SBlockRV, machine: Machine, cores: bool, vectors: Column) -> LoopNest:
    """`block` with `vectors` registers of neighbours along its innermost loop of more than one iteration; its outer loops on all `cores`.

    An access along which memory is not contiguous counts among the `gathers`; its step is taken for one.
    """
    around, reducing = sch.get_loops(block), is_reduce_loop(sch, block)
    extents = [extent(sch, loop) or 1 for loop in around]
    found = accesses(sch, block)
    inner = max((place for place, length in enumerate(extents) if length != 1), default=len(extents) - 1)
    item = tvm.DataType(str(sch.get(block).writes[0].source.dtype)).itemsize
    lanes = min(machine.lanes(item), extents[inner]) if extents else 1
    several = np.minimum(np.asarray(vectors), max(1, extents[inner] // lanes)) if extents else np.asarray(1)
    loops: list[Loop] = []
    for place, length in enumerate(extents):
        if place == inner:
            loops.append(Loop(f"l{place}", np.ceil(length / (lanes * several)), reduces=reducing[place]))
        else:
            first = cores and not reducing[place] and all(length == 1 for length in extents[:place])
            loops.append(Loop(f"l{place}", length, "parallel" if first else "serial", reducing[place]))
    if extents:
        loops += [Loop("several", several, "unrolled", reducing[inner]), Loop("lane", lanes, "vector", reducing[inner])]
    operands = []
    for number, access in enumerate(found):
        steps: dict[str, Number] = {f"l{place}": 1 if step is None else step for place, step in enumerate(access.strides) if step != 0}
        if f"l{inner}" in steps:
            step = steps[f"l{inner}"]
            steps |= {f"l{inner}": step * lanes * several, "several": step * lanes, "lane": step}
        size = tvm.DataType(str(access.buffer.dtype)).itemsize
        role: Role = "read" if not access.stored else "accumulate" if is_reduction(sch, block) else "write"
        if not access.stored and any(other.stored and other.buffer.same_as(access.buffer) for other in found):
            continue  # the sum so far
        operands.append(Operand(f"{access.buffer.name}{number}", size, role, (steps,)))
    gathers = sum(access.strides[inner] not in (0, 1) for access in found) if extents else 0
    steps_in_all = int(np.prod(extents, dtype=np.int64))
    return LoopNest(tuple(loops), tuple(operands), steps_in_all, {"gathers": gathers, "work": work(sch, block)})


def by_work(nests: list[LoopNest]) -> list[LoopNest]:
    """Most operations first."""
    return sorted(nests, key=lambda nest: -int(np.max(nest.steps)))
