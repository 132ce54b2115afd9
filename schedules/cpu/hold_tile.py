"""A tile of the sums of a product in registers, with what follows computed on it, by schedule primitives."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from schedules.cpu.access import calls
from schedules.cpu.loops import in_registers
from schedules.cpu.nest import MATH
from schedules.space import Point


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
