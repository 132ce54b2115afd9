"""Small moves that several CPU rules make on a schedule."""

from collections.abc import Sequence

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV


def extent(sch: Schedule, loop: LoopRV) -> int | None:
    """The loop's iteration count, None where it is not constant."""
    value = sch.get(loop).extent
    return int(value) if isinstance(value, tirx.IntImm) else None


def in_registers(sch: Schedule, loops: Sequence[LoopRV]) -> None:
    """Unroll all loops but the last, which becomes one vector."""
    *outer, lanes = loops
    sch.vectorize(lanes)
    for loop in outer:
        sch.unroll(loop)


def divisors(number: int, limit: int) -> list[int]:
    """All divisors of `number` up to `limit`, ascending."""
    return [d for d in range(1, min(number, limit) + 1) if number % d == 0]
