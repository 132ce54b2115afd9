"""Small moves that the rules of microcontrollers make on a schedule, and what they ask before."""

import math
from collections.abc import Callable

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV, ScheduleError

from schedules.cpu.loops import extent

CHEAP = frozenset({"prim.if_then_else", "prim.likely"})
UNROLL = "stack.unroll"  # an annotation that the C printer knows
MANY_TERMS = 16  # additions and multiplications, those in indices included


def instances(sch: Schedule, block: SBlockRV) -> int:
    """How often `block` is executed."""
    return math.prod(extent(sch, loop) or 1 for loop in sch.get_loops(block))


def is_output(sch: Schedule, block: SBlockRV) -> bool:
    written = set(sch.mod["main"].params)
    return any(region.source in written for region in sch.get(block).writes)


def costly(sch: Schedule, block: SBlockRV) -> bool:
    """Whether one execution takes more than a few instructions: a function, a division, a long sum."""
    found: list[object] = []
    terms: list[object] = []

    def call(node: tvm.ir.Call) -> None:
        if getattr(node.op, "name", "") not in CHEAP:
            found.append(node)

    tvm_ffi.structural_walk(sch.get(block).body, [(tvm.ir.Call, call), (tirx.Div, found.append), ((tirx.Add, tirx.Mul), terms.append)])
    return bool(found) or len(terms) > MANY_TERMS


def attempt(sch: Schedule, name: str, move: Callable[[Schedule, SBlockRV], None]) -> Schedule:
    """`sch` after `move` of the block `name`, or as it was where that is not legal."""
    changed = sch.copy()
    try:
        move(changed, changed.get_sblock(name))
    except ScheduleError:
        return sch
    return changed


def nearest_divisor(length: int, wanted: int) -> int:
    """The largest divisor of `length` up to `wanted`."""
    return max(d for d in range(1, wanted + 1) if length % d == 0)


def unroll_in_c(sch: Schedule, loop: LoopRV, factor: int) -> None:
    """Leave it to the C compiler to do `factor` iterations of `loop` in one."""
    if factor > 1:
        sch.annotate(loop, UNROLL, factor)
