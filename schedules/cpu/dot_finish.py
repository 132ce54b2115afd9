"""A tile of sums in registers, from its start to the stored results: acc[pixel, block of columns, 16 lanes].

acc[p, b, 0:16] = bias[...]                 where the tail adds nothing but a bias of the column before anything else; else 0
...                                         (the sums)
y[p, b, 0:16] = tail(acc[p, b, 0:16])       bytes leave as many at once as there are, by saturating packs
"""

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from schedules.cpu.dot_loops import const, unrolled, var, vector
from schedules.cpu.dot_requantize import Requantize, read_requantize
from schedules.cpu.dot_tail import Tail
from schedules.machine import Machine

BLOCK = 16  # columns, and int32 lanes of 512 bits
Body = Callable[[tirx.Expr, tirx.Expr, tirx.Expr], tirx.Stmt]


@dataclass(frozen=True)
class Tile:
    """`pixels` x `blocks` sums and the tail behind them. `at` is where pixel p lies, in the axes of the tail but the last; columns start at
    `first`, and there are `columns` of them in all."""

    tail: Tail
    acc: tirx.Buffer
    pixels: int
    blocks: int
    at: Callable[[tirx.Expr], list[tirx.Expr]]
    first: tirx.Expr
    columns: int
    ragged: bool
    machine: Machine

    @property
    def lanes(self) -> int:
        return self.machine.lanes()

    @property
    def vectors(self) -> int:
        return BLOCK // self.lanes

    def here(self, p: tirx.Expr, b: tirx.Expr, first: tirx.Expr) -> tirx.Expr:
        return (p * self.blocks + b) * BLOCK + first

    def blocks_of(self, p: tirx.Expr, body: Body) -> tirx.Stmt:
        """`body` of the pixel, each of its blocks of columns, and the first column of each vector within that."""
        b, v = var("b"), var("v")
        if self.vectors == 1:
            return unrolled(b, self.blocks, body(p, b, const(0)))
        return unrolled(b, self.blocks, unrolled(v, self.vectors, body(p, b, v * self.lanes)))

    def registers(self, body: Body) -> tirx.Stmt:
        """Pixels are the outer of the unrolled loops: the other way round LLVM keeps every broadcast alive and spills."""
        p = var("p")
        return unrolled(p, self.pixels, self.blocks_of(p, body))

    def sum_at(self, p: tirx.Expr, b: tirx.Expr, first: tirx.Expr) -> tirx.Expr:
        return self.acc.vload([self.here(p, b, first)], f"int32x{self.lanes}")

    def keep(self, value: tirx.Expr, p: tirx.Expr, b: tirx.Expr, first: tirx.Expr) -> tirx.Stmt:
        return tirx.BufferStore(self.acc, value, [tirx.Ramp(self.here(p, b, first), const(1), self.lanes)])

    def start(self) -> tirx.Stmt:
        bias = None if self.ragged else self.tail.bias
        if bias is None:
            zero = tirx.Broadcast(tirx.const(0, "int32"), self.lanes)
            return self.registers(lambda p, b, first: self.keep(zero, p, b, first))

        def load(p: tirx.Expr, b: tirx.Expr, first: tirx.Expr) -> tirx.Stmt:
            lane = var("lane")
            value = self.tail.value_at(bias, [*self.at(p), self.first + b * BLOCK + first + lane], bias)
            return vector(lane, self.lanes, tirx.BufferStore(self.acc, value, [self.here(p, b, first + lane)]))

        return self.registers(load)

    def finish(self) -> tirx.Stmt:
        tail = self.tail.without_bias if not self.ragged and self.tail.bias is not None else self.tail
        requantize = read_requantize(tail.store.value) if tail.contiguous else None
        if requantize is None:
            return self.plain(tail)
        p = var("p")
        fast = unrolled(p, self.pixels, tirx.SeqStmt([self.whole(tail, requantize, p), self.packed(tail, requantize, p)]))
        if not self.ragged:
            return fast
        return tirx.IfThenElse(self.first + self.blocks * BLOCK <= const(self.columns), fast, self.plain(tail))

    def plain(self, tail: Tail) -> tirx.Stmt:
        """The tail as it is, a block of columns at a time."""
        p, b, lane = var("p"), var("b"), var("lane")
        column = self.first + b * BLOCK + lane
        store = tail.at([*self.at(p), column], self.acc.vload([self.here(p, b, lane)], "int32"))
        if self.ragged:
            store = tirx.IfThenElse(column < const(self.columns), store, None)
        return unrolled(p, self.pixels, unrolled(b, self.blocks, vector(lane, BLOCK, store)))

    def whole(self, tail: Tail, requantize: Requantize, p: tirx.Expr) -> tirx.Stmt:
        """The sums of one pixel become the integers that are to be packed."""

        def one(p: tirx.Expr, b: tirx.Expr, first: tirx.Expr) -> tirx.Stmt:
            lane = var("lane")
            at = [*self.at(p), self.first + b * BLOCK + first + lane]
            value = tail.value_at(requantize.whole(), at, self.acc.vload([self.here(p, b, first + lane)], "int32"))
            return vector(lane, self.lanes, tirx.BufferStore(self.acc, value, [self.here(p, b, first + lane)]))

        return self.blocks_of(p, one)

    def packed(self, tail: Tail, requantize: Requantize, p: tirx.Expr) -> tirx.Stmt:
        stores: list[tirx.Stmt] = []
        done, count = 0, self.blocks * self.vectors
        while done < count:
            size = next(size for size in (4, 2, 1) if size <= count - done)
            held = [self.sum_at(p, const(0), const((done + index) * self.lanes)) for index in range(size)]
            column = tirx.Ramp(self.first + done * self.lanes, const(1), size * self.lanes)
            stores.append(tirx.BufferStore(tail.store.buffer, requantize.packed(held, self.lanes), tail.indices_at([*self.at(p), column])))
            done += size
        return tirx.SeqStmt(stores) if len(stores) > 1 else stores[0]
