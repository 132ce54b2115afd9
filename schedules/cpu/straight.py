"""Straight-line vector code: each value that is held gets a slot of a local array, which becomes a register.

    code = Straight(lanes, slots); code.hold(code.load(x, [h]) * 2)     ->     held[0] = x[h, 0:lanes] * 2

Values are whole vectors from the start: of loops over lanes, TVM would simplify each index several times over.
"""

from collections.abc import Sequence

from tvm import tirx

from schedules.cpu.raw_loops import buffer, holding, number, sequence


class Straight:
    """Code without loops over vectors of `lanes` floats: each value that is held gets a slot of a local array."""

    def __init__(self, lanes: int, slots: int) -> None:
        self.dtype = f"float32x{lanes}"
        self.held = buffer("held", (slots,), self.dtype)
        self.stores: list[tirx.Stmt] = []
        self.slot = 0

    def load(self, source: tirx.Buffer, index: Sequence[tirx.Expr]) -> tirx.Expr:
        """The vector at `index`: all axes of a `source` of vectors, and all but that of lanes of one of numbers."""
        return source[tuple(index)] if self.of_vectors(source) else source.vload([*index, number(0)], self.dtype)

    def of_vectors(self, memory: tirx.Buffer) -> bool:
        return str(memory.dtype) == self.dtype

    def hold(self, value: tirx.Expr) -> tirx.Expr:
        slot = number(self.slot)
        assert self.slot < int(self.held.shape[0]), "more values than slots"
        self.slot += 1
        self.stores.append(tirx.BufferStore(self.held, value, [slot]))
        return self.held[slot]

    def store(self, target: tirx.Buffer, index: Sequence[tirx.Expr], value: tirx.Expr) -> None:
        at = list(index) if self.of_vectors(target) else [*index, number(0)]
        self.stores.append(target.vstore(at, value))

    def done(self) -> tirx.Stmt:
        return holding([self.held], sequence(*self.stores))
