"""A byte looked up for each byte: sixteen shuffles and a tree of selections in place of a load for each element.

    y[i] = table[x[i]]

->  for i by 64:
      part[h] = shuffle(table[16 * h : 16 * h + 16], x[i : i + 64] & 15)       for each h < 16
      y[i : i + 64] = part[x[i : i + 64] >> 4]                                 by 8 + 4 + 2 + 1 selections, one bit of x after another

Of 16 bytes within each 128 bits, VPSHUFB takes the one that each byte says. The last vector overlaps the one before, where they do not
divide the elements. Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
"""

from dataclasses import dataclass
from math import prod

import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.s_tir import Schedule

from schedules.cpu.access import blocks_of
from schedules.cpu.nest import PARALLEL_WORK
from schedules.cpu.raw_loops import as_schedule, loop, number, parallel, sequence
from schedules.machine import Machine
from schedules.space import Point, Space

ENTRIES, ROW = 256, 16
SHUFFLES = {32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}


@dataclass(frozen=True)
class Lookup:
    """y[...] = table[x[...]], all of bytes."""

    x: tirx.Buffer
    table: tirx.Buffer
    y: tirx.Buffer

    @property
    def count(self) -> int:
        return prod(int(extent) for extent in self.x.shape)


def read_lookup(program: tirx.PrimFunc) -> Lookup | None:
    sch = Schedule(program)
    blocks = blocks_of(sch)
    if len(blocks) != 1 or len(program.params) != 3:
        return None
    store = sch.get(blocks[0]).body
    if not isinstance(store, tirx.BufferStore) or not isinstance(store.value, TensorLoad) or len(store.value.indices) != 1:
        return None
    (place,) = store.value.indices
    index = place.value if isinstance(place, tirx.Cast) else place
    if not isinstance(index, TensorLoad) or not tvm_ffi.structural_equal(list(index.indices), list(store.indices)):
        return None
    found = Lookup(index.source, store.value.source, store.buffer)
    axes = [axis.var for axis in sch.get(blocks[0]).iter_vars]
    in_order = len(axes) == len(store.indices) and all(a.same_as(b) for a, b in zip(axes, store.indices, strict=True))
    extents = [[int(extent) for extent in each.shape] for each in (found.x, found.table, found.y)]
    bytes_only = all(str(each.dtype) == "uint8" for each in (found.x, found.table, found.y))
    return found if bytes_only and in_order and extents[0] == extents[2] and extents[1] == [ENTRIES] else None


def table_of_bytes(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    found = read_lookup(program)
    if found is None or machine.vector_bytes not in SHUFFLES or found.count < machine.vector_bytes:
        return None
    return Space("table_of_bytes", default={}, apply=lambda point: apply(program, found, machine, point))


def apply(program: tirx.PrimFunc, found: Lookup, machine: Machine, _point: Point) -> Schedule:
    lanes = machine.vector_bytes
    count = -(-found.count // lanes)

    def one(index: tirx.Expr) -> tirx.Stmt:
        start = index * lanes
        return look_up(found, lanes, tirx.Min(start, number(found.count - lanes)) if found.count % lanes else start)

    busy = machine.cores > 1 and found.count >= PARALLEL_WORK * 4  # bytes, a quarter of a cycle each
    body = parallel("part", count, one) if busy else loop("part", count, one)
    return as_schedule(program, [found.x, found.table, found.y], body)


def look_up(found: Lookup, lanes: int, start: tirx.Expr) -> tirx.Stmt:
    """`lanes` elements from `start` on, counted through all rows."""
    kind = f"uint8x{lanes}"
    lead = [number(0)] * (len(found.x.shape) - 1)
    x = tirx.Var("bytes", kind)
    low = tirx.Var("low", kind)

    def every(value: int) -> tirx.Expr:
        return tirx.Broadcast(tirx.const(value, "uint8"), lanes)

    def row(high: int) -> tirx.Expr:
        entries = found.table.vload([number(high * ROW)], f"uint8x{ROW}")
        repeated = tirx.Shuffle([entries] * (lanes // ROW), [tirx.const(lane, "int32") for lane in range(lanes)])
        signed = [tirx.reinterpret(f"int8x{lanes}", each) for each in (repeated, low)]
        return tirx.reinterpret(kind, tirx.call_llvm_pure_intrin(f"int8x{lanes}", SHUFFLES[lanes], *signed))

    names = [tirx.Var(f"row{high}", kind) for high in range(ENTRIES // ROW)]
    binds = [tirx.Bind(x, found.x.vload([*lead, start], kind)), tirx.Bind(low, x & every(ROW - 1))]
    binds += [tirx.Bind(name, row(high)) for high, name in enumerate(names)]
    values: list[tirx.Expr] = list(names)
    for bit in (16, 32, 64, 128):
        is_set = (x & every(bit)) != every(0)
        values = [tirx.Select(is_set, odd, even) for even, odd in zip(values[::2], values[1::2], strict=True)]
    return sequence(*binds, tirx.BufferStore(found.y, values[0], [*lead, tirx.Ramp(start, number(1), lanes)]))
