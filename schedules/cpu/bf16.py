"""Products in bfloat16: two rows of a panel lie in one, as pairs, the upper one in the lower halves of 32 bits.

    bf16        acc += x[k] * low(pair);  acc += x[k + 1] * high(pair)        weights take half the bytes; arithmetic in float32
    bf16_dot    acc += dot(round(x[k], x[k + 1]), pair)                       VDPBF16PS, where the machine has it; sums in float32

A half is widened by one shift or one mask of a whole vector, so that a pair costs one load and two cheap instructions. The instruction
takes numbers below 2^-126 for zero and adds without rounding in between as IEEE 754 would: within bfloat16's tolerance.
"""

from collections.abc import Callable, Sequence

import numpy as np
from tvm import tirx

from schedules.cpu.raw_loops import PARALLEL, SERIAL, VECTOR, buffer, holding, loop, number, sequence
from schedules.loopnest import Loop, LoopNest, Operand, dim
from schedules.machine import Machine
from schedules.space import Array

FULL, WIDENED, DOT = "f32", "bf16", "bf16_dot"
PARALLEL_ELEMENTS = 1 << 16  # to round: about as many as pay for starting a parallel loop

Element = Callable[[tirx.Expr, tirx.Expr], tirx.Expr]


def precisions(machine: Machine, depth: int) -> Sequence[str]:
    """What a product that deep may be computed in."""
    if not machine.reduced_precision or depth < 2:
        return (FULL,)
    return (FULL, WIDENED, DOT) if machine.bf16_dot and machine.lanes() == 16 else (FULL, WIDENED)


def to_bf16(weights: Array) -> Array:
    """The upper halves of float32, rounded to nearest, ties to even."""
    bits = weights.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(weights), 0x7FC0, rounded).astype(np.uint16)


def pack_pairs(panels: Array) -> Array:
    """[panel, K, width] of float32 -> [panel, ceil(K / 2), width] of int32, a zero beside the last of an odd number."""
    halves = to_bf16(panels)
    if halves.shape[1] % 2:
        halves = np.concatenate([halves, np.zeros_like(halves[:, :1])], axis=1)
    return np.ascontiguousarray((halves[:, 1::2].astype(np.uint32) << 16 | halves[:, ::2]).view(np.int32))


def low(pair: tirx.Expr) -> tirx.Expr:
    return tirx.reinterpret("float32", pair << tirx.const(16, "int32"))


def high(pair: tirx.Expr) -> tirx.Expr:
    return tirx.reinterpret("float32", pair & tirx.const(-(1 << 16), "int32"))


def lanes_from(start: int | tirx.Expr, lanes: int) -> tirx.Expr:
    return tirx.Ramp(number(start) if isinstance(start, int) else start, number(1), lanes)


def dot(sums: tirx.Expr, x: tirx.Expr, w: tirx.Expr) -> tirx.Expr:
    """A vector of `sums` plus both products of the pair `x` with each pair of the vector `w`."""
    return tirx.call_pure_extern("float32x16", "stack_bf16_dot", sums, tirx.Broadcast(x, 16), w)


def rounded_rows(left: Element, rows: int, depth: int, parallel: bool) -> tuple[tirx.Buffer, tirx.Stmt]:
    """The pairs of all rows of `left`, [rows, ceil(depth / 2) rounded up to vectors], and what makes them; zeros fill the last."""
    steps = -(-depth // 32)
    pairs = buffer("pairs", (rows, steps * 16), "int32", scope="global")

    def store(row: tirx.Expr, step: tirx.Expr, count: int) -> tirx.Stmt:
        values = buffer("values", (32,))

        def copy(lane: tirx.Expr) -> tirx.Stmt:
            return tirx.BufferStore(values, left(row, step * 32 + lane), [lane])

        zero = loop("lane", 32, lambda lane: tirx.BufferStore(values, tirx.const(0.0, "float32"), [lane]), VECTOR)
        fill = [loop("lane", 32, copy, VECTOR)] if count == 32 else [zero, loop("lane", count, copy)]
        halves = [values[lanes_from(first, 16)] for first in (0, 16)]
        rounded = tirx.call_pure_extern("int32x16", "stack_bf16_round", *halves)
        return holding([values], sequence(*fill, tirx.BufferStore(pairs, rounded, [row, lanes_from(step * 16, 16)])))

    def of_row(row: tirx.Expr) -> tirx.Stmt:
        full, rest = divmod(depth, 32)
        body = loop("step", full, lambda step: store(row, step, 32)) if full else None
        return sequence(body, store(row, number(full), rest) if rest else None)

    return pairs, loop("row", rows, of_row, PARALLEL if parallel and rows * depth >= PARALLEL_ELEMENTS else SERIAL)


def rounding_nest(rows: int, depth: int, lanes: int) -> LoopNest:
    """The same, described."""
    dims = (dim(row=1), dim(step=lanes, lane=1))
    loops = (Loop("row", rows, "parallel"), Loop("step", -(-depth // lanes)), Loop("lane", lanes, "vector"))
    return LoopNest(loops, (Operand("x", 4, "read", dims), Operand("pairs", 2, "write", dims)), rows * depth)
