"""Products of two activations that no vector or tile divides: the right operand is packed into panels first, each a few vectors wide.

panel[b, p, k, c] = y[b, k, p * width + c] or 0               one copy of y, vectors of it
for b, p, m, c, k: z[b, m, p, c] += x[b, m, k] * panel[b, p, k, c]      ->      a tile of rows x one panel stays in registers
out[b, m, n] = scale * z[b, m, n // width, n % width]                           and is cut where it is stored
"""

from math import prod

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.access import blocks_of, is_reduction, trivial
from schedules.cpu.batch_nests import batch_nest
from schedules.cpu.hold_tile import hold_tile
from schedules.cpu.loops import divisors, extent
from schedules.cpu.matmul import PARALLEL_STEPS
from schedules.cpu.nest import spread
from schedules.machine import Machine
from schedules.space import Point, Space

BLOCK, PACK = "packed_batch_matmul", "pack_columns"


def find(sch: Schedule, name: str) -> SBlockRV | None:
    return next((block for block in blocks_of(sch) if str(sch.get(block).name_hint) == name), None)


def packed_batch(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    sch = Schedule(program)
    block = find(sch, BLOCK)
    if block is None or find(sch, PACK) is None or not all(trivial(sch, other) for other in blocks_of(sch)):
        return None
    if sum(is_reduction(sch, other) for other in blocks_of(sch)) != 1 or len(sch.get_output_blocks("root")) != 1:
        return None
    (last,) = sch.get_output_blocks("root")
    unpack = sch.get_consumers(block)[0]
    if [extent(sch, loop) for loop in sch.get_loops(last)] != [extent(sch, loop) for loop in sch.get_loops(unpack)]:
        return None
    *batch, rows, count, width, depth = (int(axis.dom.extent) for axis in sch.get(block).iter_vars)
    vectors = width // machine.lanes()
    tiles = divisors(rows, min(14, max(1, (machine.vector_registers - vectors - 1) // vectors)))
    return Space(
        rule="packed_batch",
        knobs={"tile_rows": tiles, "panels_outside": (False, True)},
        default={"tile_rows": tiles[-1], "panels_outside": True},
        apply=lambda point: apply(program, machine, point),
        nests=lambda knobs: [
            batch_nest(
                prod(batch),
                rows,
                count * width,
                depth,
                np.asarray(knobs["tile_rows"]),
                np.asarray(vectors),
                machine.lanes(),
                bool(knobs["panels_outside"]),
            )
        ],
    )


def apply(program: tirx.PrimFunc, machine: Machine, point: Point) -> Schedule:
    sch = Schedule(program)
    block, pack = find(sch, BLOCK), find(sch, PACK)
    assert block is not None
    assert pack is not None
    axes = [int(axis.dom.extent) for axis in sch.get(block).iter_vars]
    (last,) = sch.get_output_blocks("root")
    for other in blocks_of(sch):
        if str(sch.get(other).name_hint) not in (BLOCK, PACK) and sch.get_consumers(other):
            sch.compute_inline(other)
    sch.set_scope(block, 0, "local")
    *batch, m, n = sch.get_loops(last)
    hold_tile(sch, block, last, batch, m, n, axes[-2] // machine.lanes(), prod(axes) >= PARALLEL_STEPS and machine.cores > 1, point)
    spread(sch, pack, machine)
    return sch
