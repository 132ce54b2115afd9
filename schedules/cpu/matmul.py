"""Products with packed weights: a tile of rows x vectors of columns stays in registers, and what follows is computed on it.

    for m, p, c, k: y[m, p, c] += x[m, k] * w[p, k, c]          for p, mo in parallel:
    for m, n: out[m, n] = relu(y[m, n // 32, n % 32] + b[n])  ->    acc[0:tile_rows, 0:vectors, 0:lanes] = 0
                                                                    for k: acc[mi, v, :] += broadcast(x[m, k]) * w[p, k, v, :]
                                                                    out[...] = relu(acc + b)

Panels are the outer loop where x fits the second-level cache or there is little of it, so that weights are read from memory once;
otherwise row tiles are. A single row is bound by memory: each core streams its own panels.
"""

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from schedules.cpu.access import blocks_of, calls, is_reduction, trivial
from schedules.cpu.loops import divisors, extent, in_registers
from schedules.cpu.nest import MATH
from schedules.machine import Machine
from schedules.space import Point, Space

BLOCK = "packed_matmul"
PARALLEL_STEPS = 1 << 19  # multiply-adds: about 6 us on one core, twice what starting a parallel loop costs


def find(sch: Schedule) -> SBlockRV | None:
    return next((block for block in blocks_of(sch) if str(sch.get(block).name_hint) == BLOCK), None)


def packed_matmul(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    sch = Schedule(program)
    block = find(sch)
    if block is None or not all(trivial(sch, other) for other in blocks_of(sch)):
        return None
    reductions = [other for other in blocks_of(sch) if is_reduction(sch, other)]
    if len(reductions) != 1 or len(sch.get_output_blocks("root")) != 1:
        return None
    rows, count, width, depth = (int(axis.dom.extent) for axis in sch.get(block).iter_vars)
    (last,) = sch.get_output_blocks("root")
    unpack = sch.get_consumers(block)[0]
    if [extent(sch, loop) for loop in sch.get_loops(last)] != [extent(sch, loop) for loop in sch.get_loops(unpack)]:
        return None
    vectors = width // machine.lanes()
    room = max(1, (machine.vector_registers - vectors - 1) // vectors)
    tiles = divisors(rows, min(room, 14))
    panel_bytes, x_bytes = width * depth * 4, rows * depth * 4
    panels_outside = x_bytes * (count - 1) <= panel_bytes * count * (rows // tiles[-1] - 1) or x_bytes <= machine.l2_bytes // 2
    return Space(
        rule="packed_matmul",
        knobs={"tile_rows": tiles, "unroll": (1, 2, 4), "panels_outside": (False, True)},
        default={"tile_rows": tiles[-1], "unroll": 4 if tiles[-1] * vectors <= 8 else 1, "panels_outside": panels_outside},
        apply=lambda point: apply(program, machine, point),
    )


def apply(program: tirx.PrimFunc, machine: Machine, point: Point) -> Schedule:
    sch = Schedule(program)
    block = find(sch)
    assert block is not None
    rows, count, width, depth = (int(axis.dom.extent) for axis in sch.get(block).iter_vars)
    lanes = machine.lanes()
    for other in blocks_of(sch):
        if not is_reduction(sch, other) and sch.get_consumers(other):
            sch.compute_inline(other)
    (last,) = sch.get_output_blocks("root")
    sch.set_scope(block, 0, "local")
    *lead, n = sch.get_loops(last)
    m = sch.fuse(*lead) if len(lead) > 1 else lead[0]
    steps = max(rows, 8) * count * width * depth  # a weight that few rows use costs its load
    k = hold_tile(sch, block, last, [], m, n, width // lanes, steps >= PARALLEL_STEPS and machine.cores > 1, point)
    if point["unroll"] != 1 and depth % int(point["unroll"]) == 0:
        _, step = sch.split(k, [None, point["unroll"]])
        sch.unroll(step)
    return sch


def hold_tile(
    sch: Schedule,
    block: SBlockRV,
    last: SBlockRV,
    batch: list[LoopRV],
    m: LoopRV,
    n: LoopRV,
    vectors: int,
    parallel: bool,
    point: Point,
) -> LoopRV:
    """Keep `tile_rows` x one panel of the sums in registers and compute `last`, over `batch`, m and n, on them. Returns the depth loop."""
    lanes = extent_of_width(sch, block) // vectors
    panel, vector, lane = sch.split(n, [None, vectors, lanes])
    row, row_in = sch.split(m, [None, point["tile_rows"]])
    outer = [panel, row] if point["panels_outside"] else [row, panel]
    sch.reorder(*batch, *outer, row_in, vector, lane)
    tile = sch.fuse(*batch, *outer)
    sch.compute_at(block, tile, preserve_unit_loops=True)
    if parallel:
        sch.parallel(tile)
    # a long tail works through memory: unrolled over the whole tile, its temporaries would spill anyway
    in_registers(sch, [vector, lane] if calls(sch, last, MATH) else [row_in, vector, lane])
    *_, acc_row, acc_panel, acc_column, k = sch.get_loops(block)
    sch.reorder(acc_panel, k, acc_row, acc_column)
    acc_vector, acc_lane = sch.split(acc_column, [None, lanes])
    in_registers(sch, [acc_row, acc_vector, acc_lane])
    init = sch.decompose_reduction(block, k)
    in_registers(sch, sch.get_loops(init)[-3:])
    return k


def extent_of_width(sch: Schedule, block: SBlockRV) -> int:
    """Columns of one panel."""
    return int(sch.get(block).iter_vars[-2].dom.extent)
