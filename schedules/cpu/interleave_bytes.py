"""Images whose few channels come to lie side by side, as bytes: a vector of pixels of each channel, then one shuffle of all.

    y[n, h, w, c] = uint8(f(x[n, c, h, w]))     with c < 3, as where a network's input is quantised

->  for n, h in parallel, for w by 16:
      held[c, 0:16] = uint8(f(x[n, c, h, w : w + 16]))            for each c
      y[n, h, w : w + 16, 0:3] = held[0, 0], held[1, 0], held[2, 0], held[0, 1], ...

The last pixels of a row overlap those before, where 16 does not divide them.
"""

from dataclasses import dataclass
from math import prod

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ScheduleError

from schedules.cpu.access import accesses, blocks_of, is_reduction, substitute, trivial
from schedules.cpu.elementwise import inline_chains
from schedules.cpu.nest import PARALLEL_WORK
from schedules.cpu.raw_loops import as_schedule, buffer, holding, loop, number, parallel, sequence, vector
from schedules.machine import Machine
from schedules.space import Point, Space

PIXELS = 16
CHANNELS = (2, 3, 4)
BYTES = ("uint8", "int8")


@dataclass(frozen=True)
class Interleaving:
    """`store` of one element, over `axes`: rows, then pixels of a row, then channels."""

    store: tirx.BufferStore
    axes: tuple[tirx.Var, ...]
    extents: tuple[int, ...]


def read_interleaving(program: tirx.PrimFunc) -> Interleaving | None:
    sch = Schedule(program)
    try:
        inline_chains(sch)
    except ScheduleError:
        return None
    blocks = blocks_of(sch)
    if len(blocks) != 1 or is_reduction(sch, blocks[0]) or not trivial(sch, blocks[0]):
        return None
    node = sch.get(blocks[0])
    axes, extents = tuple(axis.var for axis in node.iter_vars), tuple(int(axis.dom.extent) for axis in node.iter_vars)
    store = node.body
    if not isinstance(store, tirx.BufferStore) or str(store.buffer.dtype) not in BYTES or len(axes) < 2:
        return None
    in_order = len(store.indices) == len(axes) and all(index.same_as(axis) for index, axis in zip(store.indices, axes, strict=True))
    if not in_order or extents[-1] not in CHANNELS or extents[-2] < PIXELS or any(str(axis.ty) != "int64" for axis in axes):
        return None
    loads = [access for access in accesses(sch, blocks[0]) if not access.stored]
    across = [access.strides[-2] for access in loads if access.strides[-1] != 0]
    return Interleaving(store, axes, extents) if across and all(step == 1 for step in across) else None


def interleave_bytes(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    found = read_interleaving(program)
    if found is None:
        return None
    return Space("interleave_bytes", default={}, apply=lambda point: apply(program, found, machine, point))


def apply(program: tirx.PrimFunc, found: Interleaving, machine: Machine, _point: Point) -> Schedule:
    *rows, width, _ = found.extents

    def row(which: tirx.Expr) -> tirx.Stmt:
        where: list[tirx.Expr] = []
        for extent in reversed(rows):
            where.insert(0, tirx.floormod(which, number(extent)))
            which = tirx.floordiv(which, number(extent))
        return loop("part", -(-width // PIXELS), lambda part: pixels(found, where, part))

    busy = machine.cores > 1 and prod(found.extents) >= PARALLEL_WORK
    body = parallel("row", prod(rows), row) if busy else loop("row", prod(rows), row)
    return as_schedule(program, list(program.params), body)


def pixels(found: Interleaving, where: list[tirx.Expr], part: tirx.Expr) -> tirx.Stmt:
    width, channels = found.extents[-2:]
    kind = str(found.store.buffer.dtype)
    held = buffer("held", (channels * PIXELS,), kind)
    start = tirx.Min(part * PIXELS, number(width - PIXELS)) if width % PIXELS else part * PIXELS

    def channel(which: int) -> tirx.Stmt:
        def pixel(lane: tirx.Expr) -> tirx.Stmt:
            values = dict(zip(found.axes, [*where, start + lane, number(which)], strict=True))
            return tirx.BufferStore(held, substitute(found.store.value, values), [lane + which * PIXELS])

        return vector(PIXELS, pixel)

    order = [tirx.const(which * PIXELS + lane, "int32") for lane in range(PIXELS) for which in range(channels)]
    loads = [held.vload([number(which * PIXELS)], f"{kind}x{PIXELS}") for which in range(channels)]
    at = tirx.Ramp(number(0), number(1), channels * PIXELS)
    together = tirx.BufferStore(found.store.buffer, tirx.Shuffle(loads, order), [*where, start, at])
    return holding([held], sequence(*(channel(which) for which in range(channels)), together))
