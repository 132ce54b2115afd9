"""Products of two activations, one for each head or image: a tile of rows x vectors of columns stays in registers.

    for b, m, n, k: y[b, m, n] += q[b, m, k] * v[b, k, n]           for b, mo, no in parallel:
                                                             ->       acc[mi, v, :] += broadcast(q[b, m, k]) * v[b, k, n, v, :]
                                                                      y[...] = scale * acc

Takes any sum of products along one axis in which the columns are contiguous in one factor and absent from the other. Both matrices are
small enough to stay in the second-level cache, so nothing is packed.
"""

from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.access import accesses, blocks_of, calls, is_reduction, trivial
from schedules.cpu.batch_nests import batch_nest
from schedules.cpu.loops import divisors, extent, in_registers
from schedules.cpu.matmul import PARALLEL_STEPS
from schedules.cpu.nest import MATH
from schedules.machine import Machine
from schedules.space import Point, Space


@dataclass(frozen=True)
class Product:
    """The extents of one product: last two spatial axes and the reduction."""

    rows: int
    columns: int
    depth: int
    batch: int


def read_product(sch: Schedule, block: SBlockRV) -> Product | None:
    """The product that `block` computes over its loops (batch..., rows, columns, depth); None where it is something else."""
    node = sch.get(block)
    kinds = [axis.iter_type for axis in node.iter_vars]
    if len(kinds) < 3 or kinds.count(tirx.IterVar.CommReduce) != 1 or kinds[-1] != tirx.IterVar.CommReduce:
        return None
    body = node.body
    if not isinstance(body, tirx.BufferStore) or not isinstance(body.value, tirx.Add) or not isinstance(body.value.b, tirx.Mul):
        return None
    factors = [access for access in accesses(sch, block) if not access.buffer.same_as(node.writes[0].source)]
    if len(factors) != 2:
        return None
    left, right = sorted(factors, key=lambda factor: factor.strides[-2] or 0)
    if left.strides[-2] != 0 or right.strides[-2] != 1 or right.strides[-3] != 0 or left.strides[-1] is None or right.strides[-1] is None:
        return None
    *batch, rows, columns, depth = (extent(sch, loop) or 0 for loop in sch.get_loops(block))
    count = 1
    for size in batch:
        count *= size
    return Product(rows, columns, depth, count)


def batch_matmul(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    sch = Schedule(program)
    blocks = blocks_of(sch)
    products = [block for block in blocks if is_reduction(sch, block)]
    if len(products) != 1 or not all(trivial(sch, block) for block in blocks) or len(sch.get_output_blocks("root")) != 1:
        return None
    product = read_product(sch, products[0])
    lanes = machine.lanes()
    if product is None or product.columns % lanes or str(sch.get(products[0]).writes[0].source.dtype) != "float32":
        return None
    (last,) = sch.get_output_blocks("root")
    spatial = [extent(sch, loop) for loop in sch.get_loops(products[0])[:-1]]
    if [extent(sch, loop) for loop in sch.get_loops(last)][: len(spatial)] != spatial or len(sch.get_loops(last)) > len(spatial) + 1:
        return None
    vectors = divisors(product.columns // lanes, 4)
    tiles = [(rows, v) for v in vectors for rows in divisors(product.rows, 14) if rows * v + v + 1 <= machine.vector_registers]
    best = min(tiles, key=lambda tile: (1 / tile[0] + 1 / tile[1] + max(0.0, 1 - tile[0] * tile[1] / (4 * machine.fma_ports)), -tile[1]))
    return Space(
        rule="batch_matmul",
        knobs={"tile_rows": divisors(product.rows, 14), "vectors": vectors, "columns_outside": (False, True)},
        default={"tile_rows": best[0], "vectors": best[1], "columns_outside": product.rows > product.columns},
        apply=lambda point: apply(program, machine, point),
        nests=lambda knobs: [
            batch_nest(
                product.batch,
                product.rows,
                product.columns,
                product.depth,
                np.asarray(knobs["tile_rows"]),
                np.asarray(knobs["vectors"]),
                lanes,
                bool(knobs["columns_outside"]),
            )
        ],
    )


def apply(program: tirx.PrimFunc, machine: Machine, point: Point) -> Schedule:
    sch = Schedule(program)
    (block,) = (block for block in blocks_of(sch) if is_reduction(sch, block))
    product = read_product(sch, block)
    assert product is not None
    for other in blocks_of(sch):
        if not is_reduction(sch, other) and sch.get_consumers(other):
            sch.compute_inline(other)
    (last,) = sch.get_output_blocks("root")
    if is_reduction(sch, last):
        last = sch.cache_write(block, 0, "local")
    else:
        sch.set_scope(block, 0, "local")
    *batch, m, n = sch.get_loops(last)
    row, row_in = sch.split(m, [None, point["tile_rows"]])
    column, vector, lane = sch.split(n, [None, point["vectors"], machine.lanes()])
    outer = [column, row] if point["columns_outside"] else [row, column]
    sch.reorder(*batch, *outer, row_in, vector, lane)
    tile = sch.fuse(*batch, *outer)
    sch.compute_at(block, tile, preserve_unit_loops=True)
    if product.batch * product.rows * product.columns * product.depth >= PARALLEL_STEPS and machine.cores > 1:
        sch.parallel(tile)
    # a long tail works through memory: unrolled over the whole tile, its temporaries would spill anyway
    in_registers(sch, [vector, lane] if calls(sch, last, MATH) else [row_in, vector, lane])
    *_, acc_row, acc_column, k = sch.get_loops(block)
    acc_vector, acc_lane = sch.split(acc_column, [None, machine.lanes()])
    sch.reorder(k, acc_row, acc_vector, acc_lane)
    in_registers(sch, [acc_row, acc_vector, acc_lane])
    init = sch.decompose_reduction(block, k)
    in_registers(sch, sch.get_loops(init)[-3:])
    return sch
