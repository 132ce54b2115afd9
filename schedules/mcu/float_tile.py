"""Float convolutions and products of NHWC images: a tile of pixels x filters in registers.

    acc[n, y, x, f] += pad[n, y + r, x + s, c] * w[f, r, s, c]     for y: rows of `pad` copied to scratch memory, borders included
    out[n, y, x, f] = relu(acc[n, y, x, f] + b[f])            ->       for x in steps of `pixels`, f in steps of `filters`:
                                                                           acc0 ... = 0
                                                                           for r, s, c: acc0 += x0 * w0; acc1 += x0 * w1; ...
                                                                           out[...] = relu(acc0 + b0); ...

Each load serves as many multiplications as the tile is wide in the other direction. A core of the M profile has 32 registers for floats.
Where a filter reads one channel (depthwise), the columns of a window are unrolled as well, so that neighbouring pixels share their loads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV, ScheduleError

from schedules.cpu.access import accesses, blocks_of, is_reduce_loop, is_reduction, trivial
from schedules.cpu.loops import divisors, extent
from schedules.cpu.nest import fusible
from schedules.loopnest import Column, LoopNest
from schedules.machine import Machine
from schedules.mcu.loops import is_output
from schedules.mcu.nests import tiles
from schedules.space import Point, Space

REGISTERS = 32  # for floats, of one word each
WIDEST = 8


@dataclass(frozen=True)
class Product:
    """A program with one sum of products. `lanes` are the positions of its loops over pixels and filters.

    `depthwise` where each filter has a channel of its own.
    """

    name: str
    pixels: int
    filters: int
    lanes: tuple[int, int]
    depthwise: bool


def float_tile(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    """Sums of float products in which one factor does not depend on the pixel, and the other, but for depthwise ones, not on the filter."""
    product = find(program) if machine.fpu else None
    if product is None:
        return None
    pixels, filters = (divisors(length, WIDEST) for length in (product.pixels, product.filters))
    space = Space(
        rule="float_tile",
        knobs={"pixels": pixels, "filters": filters},
        default=best(pixels, filters, product.depthwise),
        apply=lambda point: apply(program, product, point),
        nests=lambda columns: [nest(program, product, columns)],
    )
    try:
        space.apply(space.default)
    except ScheduleError:  # stages behind the sum that do not follow its loops
        return None
    return space


def nest(program: tirx.PrimFunc, product: Product, columns: Mapping[str, str | bool | Column]) -> LoopNest:
    """Pixels by filters of all rows together; each filter of a depthwise product reads other pixels."""
    sch = Schedule(program)
    block = sch.get_sblock(product.name)
    extents = [extent(sch, loop) or 1 for loop in sch.get_loops(block)]
    reduced = prod(size for size, kind in zip(extents, is_reduce_loop(sch, block), strict=True) if kind)
    rows = prod(extents) // (reduced * product.filters)
    return tiles(
        np.asarray(columns["pixels"]), np.asarray(columns["filters"]), (rows, product.filters), reduced, 4, float(product.depthwise)
    )


def best(pixels: list[int], filters: list[int], depthwise: bool) -> dict[str, int]:
    """The tile with the fewest loads a product among those that fit in registers with the factors of one step."""
    if depthwise:
        return {"pixels": max(p for p in pixels if p <= 6), "filters": max(f for f in filters if f <= 2)}
    tiles = [(p, f) for p in pixels for f in filters if p * f + f + 2 <= REGISTERS]
    p, f = min(tiles, key=lambda tile: ((tile[0] + tile[1]) / (tile[0] * tile[1]), tile[1]))
    return {"pixels": p, "filters": f}


def find(program: tirx.PrimFunc) -> Product | None:
    sch = Schedule(program)
    blocks = blocks_of(sch)
    reductions = [block for block in blocks if is_reduction(sch, block)]
    outputs = [block for block in blocks if is_output(sch, block)]
    if len(reductions) != 1 or len(outputs) != 1 or not all(trivial(sch, block) for block in blocks):
        return None
    (block,), (output,) = reductions, outputs
    kinds = is_reduce_loop(sch, block)
    rank = kinds.count(False)
    extents = [extent(sch, loop) or 0 for loop in sch.get_loops(block)]
    behind = [extent(sch, loop) or 0 for loop in sch.get_loops(output)]
    if rank < 2 or any(kinds[:rank]) or behind[:rank] != extents[:rank] or not is_product(sch, block):
        return None
    x, w = (access for access in accesses(sch, block) if not access.stored and not access.buffer.same_as(sch.get(block).writes[0].source))
    depthwise = x.strides[rank - 1] == w.strides[rank - 1] == 1
    if not (depthwise or x.strides[rank - 1] == 0) or any(w.strides[axis] != 0 and extents[axis] > 1 for axis in range(rank - 1)):
        return None
    return Product(str(sch.get(block).name_hint), extents[rank - 2], extents[rank - 1], (rank - 2, rank - 1), depthwise)


def is_product(sch: Schedule, block: SBlockRV) -> bool:
    """acc = acc + x * w, in float32."""
    body = sch.get(block).body
    if not isinstance(body, tirx.BufferStore) or str(body.value.ty) != "float32" or not isinstance(body.value, tirx.Add):
        return False
    added = body.value.b
    return isinstance(added, tirx.Mul) and isinstance(added.a, TensorLoad) and isinstance(added.b, TensorLoad)


def apply(program: tirx.PrimFunc, product: Product, point: Point) -> Schedule:
    sch = Schedule(program)
    block = sch.get_sblock(product.name)
    if is_output(sch, block):
        sch.cache_write(block, 0, "local")
    for other in blocks_of(sch):
        behind = not is_reduction(sch, other) and not is_output(sch, other) and is_behind(sch, block, other)
        if behind:
            sch.compute_inline(other)
    contiguous = 0 if product.depthwise else contiguous_sums(sch, block)
    (output,) = sch.get_output_blocks("root")
    loops = sch.get_loops(output)
    row, column = (loops[position] for position in product.lanes)
    tiles = [sch.split(row, [None, int(point["pixels"])]), sch.split(column, [None, int(point["filters"])])]
    (pixel_out, pixel), (filter_out, filter_) = tiles
    sch.reorder(pixel_out, filter_out, pixel, filter_)
    sch.compute_at(block, filter_out, preserve_unit_loops=True)
    for border in sch.get_producers(block):
        outer = loops[product.lanes[0] - 1] if product.lanes[0] else pixel_out
        sch.compute_at(border, outer, preserve_unit_loops=True)
    tile_loops(sch, block, contiguous)
    for loop in (pixel, filter_):
        sch.unroll(loop)
    return sch


def is_behind(sch: Schedule, block: SBlockRV, other: SBlockRV) -> bool:
    producers = sch.get_producers(other)
    return any(sch.get(producer).same_as(sch.get(block)) or is_behind(sch, block, producer) for producer in producers)


def contiguous_sums(sch: Schedule, block: SBlockRV) -> int:
    """How many of the innermost loops walk through both factors without a gap, as columns and channels do."""
    loops, found = sch.get_loops(block), accesses(sch, block)
    count, first = 1, is_reduce_loop(sch, block).index(True)
    while (outer := len(loops) - 1 - count) >= first and fusible(found, outer, outer + 1, extent(sch, loops[outer + 1]) or 0):
        count += 1
    return count


def tile_loops(sch: Schedule, block: SBlockRV, contiguous: int) -> None:
    """Inside the sums the tile, unrolled, from which C compilers make registers."""
    loops, kinds = sch.get_loops(block), is_reduce_loop(sch, block)
    first = kinds.index(True)
    reduced = [loop for loop, kind in zip(loops, kinds, strict=True) if kind]
    tile = loops[first - 2 : first]
    sch.reorder(*reduced, *tile)
    if contiguous == 0:  # depthwise
        for column in [loop for loop in reduced if (extent(sch, loop) or 1) > 1][1:]:
            sch.unroll(column)
    if contiguous > 1:
        reduced[-contiguous:] = [sch.fuse(*reduced[-contiguous:])]
    for loop in tile:
        sch.unroll(loop)
    init = sch.decompose_reduction(block, reduced[0])
    for loop in sch.get_loops(init)[-2:]:
        sch.unroll(loop)
