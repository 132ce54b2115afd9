"""Loops and straight-line vector code, written directly where no schedule primitive leads to them.

loop("t", 4, lambda t: store)                                for t in range(4): store
code = Straight(lanes); code.hold(x[h, code.lane] * 2)      for lane in vectorized(16): held[0, lane] = x[h, lane] * 2
"""

from collections.abc import Callable, Sequence
from functools import reduce

from tvm import tirx

INDEX = "int64"


def number(value: int) -> tirx.Expr:
    return tirx.const(value, INDEX)


def loop(name: str, extent: int, body: Callable[[tirx.Expr], tirx.Stmt], kind: int = tirx.ForKind.SERIAL) -> tirx.Stmt:
    """One loop from zero; one iteration is just its body, unless it is to be a vector."""
    if extent == 1 and kind in (tirx.ForKind.SERIAL, tirx.ForKind.UNROLLED):
        return body(number(0))
    variable = tirx.Var(name, INDEX)
    return tirx.For(variable, number(0), number(extent), kind, body(variable))


def unrolled(name: str, extent: int, body: Callable[[tirx.Expr], tirx.Stmt]) -> tirx.Stmt:
    return loop(name, extent, body, tirx.ForKind.UNROLLED)


def vector(lanes: int, body: Callable[[tirx.Expr], tirx.Stmt]) -> tirx.Stmt:
    return loop("lane", lanes, body, tirx.ForKind.VECTORIZED)


def parallel(name: str, extent: int, body: Callable[[tirx.Expr], tirx.Stmt]) -> tirx.Stmt:
    return loop(name, extent, body, tirx.ForKind.PARALLEL)


def buffer(name: str, *shape: int, scope: str = "global") -> tirx.Buffer:
    return tirx.decl_buffer([number(extent) for extent in shape], "float32", name=name, scope=scope)


def sequence(statements: Sequence[tirx.Stmt]) -> tirx.Stmt:
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def every(conditions: Sequence[tirx.Expr]) -> tirx.Expr:
    return reduce(lambda left, right: tirx.And(left, right), conditions, tirx.const(True, "bool"))


def where(conditions: Sequence[tirx.Expr], then: tirx.Stmt, otherwise: tirx.Stmt | None = None) -> tirx.Stmt:
    """`then` where all hold; what always holds is left out."""
    return tirx.IfThenElse(every(conditions), then, otherwise) if conditions else then


class Straight:
    """Code without loops over vectors of `lanes`: each value that is held gets a slot of a local array, which becomes a register."""

    def __init__(self, lanes: int, slots: int) -> None:
        self.lanes = lanes
        self.lane = tirx.Var("lane", INDEX)
        self.held = buffer("held", slots, lanes, scope="local")
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
        body = tirx.For(self.lane, number(0), number(self.lanes), tirx.ForKind.VECTORIZED, sequence(self.stores))
        return tirx.SeqStmt([tirx.AllocBuffer(self.held), body])
