"""Straight-line vector code: each value that is held gets a slot of a local array, which becomes a register.

code = Straight(lanes, slots); code.hold(x[h, code.lane] * 2)      for lane in vectorized(16): held[0, lane] = x[h, lane] * 2
"""

from collections.abc import Sequence

from tvm import tirx
from tvm.ir import PrimType

from schedules.cpu.raw_loops import VECTOR, buffer, holding, number, sequence


class Straight:
    """Code without loops over vectors of `lanes`: each value that is held gets a slot of a local array, which becomes a register."""

    def __init__(self, lanes: int, slots: int) -> None:
        self.lanes = lanes
        self.lane = tirx.Var("lane", PrimType("int64"))
        self.held = buffer("held", (slots, lanes))
        self.stores: list[tirx.Stmt] = []
        self.slot = 0

    def hold(self, value: tirx.Expr) -> tirx.Expr:
        slot = number(self.slot)
        assert self.slot < int(self.held.shape[0]), "more values than slots"
        self.slot += 1
        self.stores.append(tirx.BufferStore(self.held, value, [slot, self.lane]))
        return self.held[slot, self.lane]

    def store(self, target: tirx.Buffer, index: Sequence[tirx.Expr], value: tirx.Expr) -> None:
        self.stores.append(tirx.BufferStore(target, value, [*index, self.lane]))

    def done(self) -> tirx.Stmt:
        body = tirx.For(self.lane, number(0), number(self.lanes), VECTOR, sequence(*self.stores))
        return holding([self.held], body)
