"""Products with constant weights: a tile of rows x vectors of columns stays in registers, and what follows is computed on it.

    for m, n, k: y[m, n] += x[m, k] * w[k, n]               for panel, rows in parallel:
    for m, n: out[m, n] = relu(y[m, n] + b[n])       ->       for depth block, tile:
                                                                acc[0:tile_rows, 0:vectors, 0:lanes] = 0, or what the block before left
                                                                for k: acc[r, v, :] += broadcast(x[m + r, k]) * panel[k, v, :]
                                                                out[...] = relu(acc + b)

Weights are packed when compiling: a panel is as many columns as a tile is wide, and holds row after row of them, so that a kernel reads
weights in one forward stream. `depth` rows of a panel are used by all tiles of a block of rows before the next ones are, so that they
stay near. Rows are cut into tiles that differ by one row at most, and the last panel has only the vectors it needs. While a panel is
worked on, the next one is fetched: a first tile that waits for it takes twice its time (128 rows, weights in the third level: 175
instead of 140 GFLOP/s a core; 8 rows: 50 instead of 36). One or two rows leave no time for it.

Where the user allows it, weights may be kept in bfloat16 and widened as they are loaded: half the bytes, for one more instruction a
vector. That pays where few rows use a weight, which then costs its way from memory. Or the CPU multiplies bfloat16 itself, where it can;
only measuring tells whether it is quicker at that. Sums are float32 all the same (bf16.py).

Panels are the outer loop where x fits the second-level cache or there is little of it, so that weights are read from memory once;
otherwise blocks of rows are. A single row is bound by memory: each core streams its own panels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule

from schedules.cpu.bf16 import DOT, FULL, WIDENED, dot, high, lanes_from, low, pack_pairs, precisions, rounded_rows, rounding_nest
from schedules.cpu.fused_product import FusedProduct, read_fused_product
from schedules.cpu.nest import MATH
from schedules.cpu.raw_loops import (
    PARALLEL,
    SERIAL,
    UNROLLED,
    VECTOR,
    Body,
    as_schedule,
    buffer,
    holding,
    loop,
    loop_to,
    number,
    prefetch,
    sequence,
)
from schedules.loopnest import Column, Loop, LoopNest, Number, Operand, dim
from schedules.machine import Machine
from schedules.space import Array, Point, Space

Each = Callable[[tirx.Expr, tirx.Expr, tirx.Expr], tirx.Stmt]

BLOCK = "packed_matmul"
PARALLEL_STEPS = 1 << 19  # multiply-adds: about 6 us on one core, twice what starting a parallel loop costs
TILE_ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14)
VECTORS = (1, 2, 3, 4, 6, 8)
LONG_TAIL = 6  # operations: unrolled over a whole tile, the values of a longer tail would spill
STREAMED = 4  # bytes of weights a cycle from beyond the second level: 10 GB/s at 2.7 GHz
SUMS_BYTES = 16 << 10  # of a block of rows, so that they and the panel share the first-level cache


@dataclass(frozen=True)
class Tiles:
    """`rows` cut into `count` tiles: the first `tall` have `height` rows, the others one less."""

    count: int
    height: int
    tall: int

    @staticmethod
    def of(rows: int, most: int) -> "Tiles":
        count = -(-rows // most)
        height = -(-rows // count)
        return Tiles(count, height, count - (count * height - rows))

    def start(self, tile: tirx.Expr) -> tirx.Expr:
        first = tile * self.height
        return first if self.tall == self.count else first - tirx.max(tile - self.tall, number(0))


def packed_matmul(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    product = read_fused_product(program, BLOCK)
    if product is None:
        return None
    tiles = [rows for rows in TILE_ROWS if rows <= max(1, product.rows)] or [1]
    vectors = [count for count in VECTORS if (count - 1) * machine.lanes() < product.columns]

    def legal(point: Point) -> bool:
        rows, wide = int(point["tile_rows"]), int(point["vectors"])
        return rows * wide + wide + 1 <= machine.vector_registers and (wide <= 4 or rows <= 2)

    default = choose(product, machine, [(r, v) for r in tiles for v in vectors if legal({"tile_rows": r, "vectors": v})])
    depths = sorted({-(-product.depth // parts) for parts in (1, 2, 3, 4, 6, 8)} | {int(default["depth"])})
    blocks = sorted({min(product.rows, rows) for rows in (32, 64, 128, 256, 512)} | {int(default["block_rows"])})
    return Space(
        rule="packed_matmul",
        knobs={
            "tile_rows": tiles,
            "vectors": vectors,
            "depth": depths,
            "block_rows": blocks,
            "unroll": (1, 2, 4),
            "panels_outside": (False, True),
            "prefetch": (False, True),
            **({"precision": precisions(machine, product.depth)} if machine.reduced_precision else {}),
        },
        default=default,
        legal=legal,
        apply=lambda point: apply(program, product, machine, point),
        pack=partial(pack_weights, product, machine.lanes()),
        in_place=True,
        nests=partial(nests, product, machine),
    )


def cycles(product: FusedProduct, machine: Machine, tile_rows: int, vectors: int) -> float:
    """About how many cycles the multiply-adds of one step in depth take over all tiles, each of the largest size."""
    lanes, tiles = machine.lanes(), Tiles.of(product.rows, tile_rows)
    full, rest = divmod(-(-product.columns // lanes), vectors)

    def step(height: int, wide: int) -> float:
        sums = height * wide
        return max(sums / machine.fma_ports, 4.0) * (1 + 0.25 * (1 / max(height, 1) + 1 / wide)) + 0.15 * wide  # four cycles' latency

    def panel(wide: int) -> float:
        return tiles.tall * step(tiles.height, wide) + (tiles.count - tiles.tall) * step(tiles.height - 1, wide) if wide else 0.0

    return full * panel(vectors) + panel(rest)


def choose(product: FusedProduct, machine: Machine, tiles: Sequence[tuple[int, int]]) -> dict[str, int | bool | str]:
    """The default point: the tile with fewest cycles, and blocks that keep a panel in the second-level cache."""
    tile_rows, vectors = min(tiles, key=lambda tile: (cycles(product, machine, *tile), -tile[0] * tile[1]))
    width = vectors * machine.lanes()
    parts = -(-product.depth * width * 4 // (machine.l2_bytes // 4)) if product.rows > tile_rows else 1
    depth = -(-product.depth // parts)
    block_rows = min(product.rows, 128 if parts == 1 else max(tile_rows, SUMS_BYTES // (4 * width)))
    x_bytes, weight_bytes = product.rows * product.depth * 4, product.columns * product.depth * 4
    once = x_bytes * -(-product.columns // width) <= weight_bytes * -(-product.rows // block_rows) or x_bytes <= machine.l2_bytes // 2
    precision = default_precision(product, machine)
    return {
        "tile_rows": tile_rows,
        "vectors": vectors,
        "depth": depth,
        "block_rows": block_rows,
        "unroll": 4,
        "panels_outside": once,
        "prefetch": once and product.rows > (1 if precision == WIDENED else 2),
        **({"precision": precision} if machine.reduced_precision else {}),
    }


def default_precision(product: FusedProduct, machine: Machine) -> str:
    """bfloat16 where weights take longer to come in float32 than to be used: up to 32 rows with AVX-512 (24 rows take 0.8 of the time, 49
    rows 1.05). Whether the CPU's own dot products are quicker is for measuring to say: Sapphire Rapids has them at half the speed."""
    streams = product.rows * STREAMED <= 4 * machine.lanes() * machine.fma_ports
    return WIDENED if streams and WIDENED in precisions(machine, product.depth) else FULL


def pack(weights: Array, width: int) -> Array:
    """[K, N] -> [ceil(N / width), K, width], zeros behind the last column."""
    depth, columns = weights.shape
    packed = np.empty((-(-columns // width), depth, width), weights.dtype)
    packed[-1] = 0
    for panel, first in enumerate(range(0, columns, width)):
        part = weights[:, first : first + width]
        packed[panel, :, : part.shape[1]] = part
    return packed


def pack_weights(product: FusedProduct, lanes: int, point: Point, constants: Sequence[Array]) -> list[Array]:
    """The weights in panels, and the other constants as they are."""
    shape = (product.depth, product.columns)
    place = next(index for index, array in enumerate(constants) if array.shape == shape)
    panels = pack(constants[place], int(point["vectors"]) * lanes)
    panels = panels if point.get("precision", FULL) == FULL else pack_pairs(panels)
    return [panels if index == place else array for index, array in enumerate(constants)]


def apply(program: tirx.PrimFunc, product: FusedProduct, machine: Machine, point: Point) -> Schedule:
    lanes, vectors = machine.lanes(), int(point["vectors"])
    precision, width = str(point.get("precision", FULL)), vectors * lanes
    pair = 1 if precision == FULL else 2  # of rows of a panel: the depth counts in these
    length = -(-product.depth // pair)
    whole = product.depth // 2 if precision == WIDENED else length
    depth = min(-(-int(point["depth"]) // pair), whole)
    full, rest = divmod(product.columns, width)
    panels, depth_blocks = full + (rest > 0), -(-whole // depth)
    tiles = Tiles.of(product.rows, int(point["tile_rows"]))
    together = min(tiles.count, -(-int(point["block_rows"]) // tiles.height))
    blocks = -(-tiles.count // together)
    packed = tirx.decl_buffer([number(extent) for extent in (panels, length, width)], "float32" if pair == 1 else "int32", name="panels")
    long_tail = bool(product.functions & MATH) or product.tail > LONG_TAIL
    keep = depth_blocks > 1
    unroll = max(1, int(point["unroll"]) // pair)
    unroll = unroll if depth % unroll == 0 and whole % depth == 0 else 1
    lines = -(-width * unroll // lanes // tiles.count)  # of the next panel, that a step fetches
    steps = max(product.rows, 8) * product.columns * product.depth  # a weight that few rows use costs its load
    parallel = steps >= PARALLEL_STEPS and machine.cores > 1
    pairs, round_rows = rounded_rows(product.left, product.rows, product.depth, parallel) if precision == DOT else (None, None)
    sums = buffer("sums", (together if keep else 1, tiles.height, width))

    def tile_of(height: int, wide: int, columns: int, panel: tirx.Expr, tile: tirx.Expr, slot: tirx.Expr, block: tirx.Expr) -> tirx.Stmt:
        """One tile of `height` rows x `wide` vectors, of which `columns` are real, over one block of the depth."""
        acc, first = buffer("acc", (height, wide, lanes)), tiles.start(tile)

        def each(body: Each, rows: int = UNROLLED) -> tirx.Stmt:
            def row(r: tirx.Expr) -> tirx.Stmt:
                return loop("v", wide, lambda v: loop("lane", lanes, lambda c: body(r, v, c), VECTOR), UNROLLED)

            return loop("r", height, row, rows)

        def kept(r: tirx.Expr, v: tirx.Expr, c: tirx.Expr) -> list[tirx.Expr]:
            return [slot, r, v * lanes + c]

        def result(value: tirx.Expr, r: tirx.Expr, v: tirx.Expr, c: tirx.Expr) -> tirx.Stmt:
            stored = product.store(first + r, panel * width + v * lanes + c, value)
            return stored if columns == wide * lanes else tirx.IfThenElse(v * lanes + c < columns, stored, None)

        def multiply_with(k: tirx.Expr, at: tirx.Expr, widen: Callable[[tirx.Expr], tirx.Expr]) -> tirx.Stmt:
            def step(r: tirx.Expr, v: tirx.Expr, c: tirx.Expr) -> tirx.Stmt:
                weight = widen(packed[panel, at, v * lanes + c])
                return tirx.BufferStore(acc, acc[r, v, c] + product.left(first + r, k) * weight, [r, v, c])

            return each(step)

        def multiply(step: tirx.Expr) -> tirx.Stmt:
            k = block * depth + step
            if pairs is not None:
                return each_vector(lambda r, v, at: dot(acc[r, v, at], pairs[first + r, k], packed[panel, k, lanes_from(v * lanes, lanes)]))
            if precision == FULL:
                return multiply_with(k, k, lambda weight: weight)
            return sequence(multiply_with(k * 2, k, low), multiply_with(k * 2 + 1, k, high))

        def each_vector(value: Callable[[tirx.Expr, tirx.Expr, tirx.Expr], tirx.Expr]) -> tirx.Stmt:
            at = lanes_from(0, lanes)

            def row(r: tirx.Expr) -> tirx.Stmt:
                return loop("v", wide, lambda v: tirx.BufferStore(acc, value(r, v, at), [r, v, at]), UNROLLED)

            return loop("r", height, row, UNROLLED)

        def save() -> tirx.Stmt:
            return each(lambda r, v, c: tirx.BufferStore(sums, acc[r, v, c], kept(r, v, c)))

        zero = each(lambda r, v, c: tirx.BufferStore(acc, tirx.const(0.0, "float32"), [r, v, c]))
        if long_tail:
            finish = sequence(save(), each(lambda r, v, c: result(sums[tuple(kept(r, v, c))], r, v, c), SERIAL))
        else:
            finish = each(lambda r, v, c: result(acc[r, v, c], r, v, c))
        if keep:
            restore = each(lambda r, v, c: tirx.BufferStore(acc, sums[tuple(kept(r, v, c))], [r, v, c]))
            zero = tirx.IfThenElse(block.equal(number(0)), zero, restore)
            finish = tirx.IfThenElse(block.equal(number(depth_blocks - 1)), finish, save())
        alone = multiply_with(number(whole * 2), number(whole), low) if whole < length else None  # the last of an odd number
        if alone is not None and keep:
            alone = tirx.IfThenElse(block.equal(number(depth_blocks - 1)), alone, None)
        return holding([acc], sequence(zero, walk_depth(multiply, panel, tile, block), alone, finish))

    def walk_depth(multiply: Body, panel: tirx.Expr, tile: tirx.Expr, block: tirx.Expr) -> tirx.Stmt:
        count = number(depth) if whole % depth == 0 else tirx.min(number(depth), whole - block * depth)

        def steps(step: tirx.Expr) -> tirx.Stmt:
            body = loop("u", unroll, lambda u: multiply(step * unroll + u), UNROLLED)
            if not point["prefetch"]:
                return body
            # what the first tile of the next panel would wait for
            step = ((block * tiles.count + tile) * (depth // unroll) + step) * lines
            ahead = [prefetch(packed, [panel + 1, number(0), (step + line) * lanes]) for line in range(lines)]
            return sequence(*ahead, body)

        return loop_to("k", tirx.floordiv(count, unroll) if unroll > 1 else count, steps)

    def both_heights(wide: int, columns: int, panel: tirx.Expr, tile: tirx.Expr, slot: tirx.Expr, block: tirx.Expr) -> tirx.Stmt:
        high = tile_of(tiles.height, wide, columns, panel, tile, slot, block)
        if tiles.tall == tiles.count:
            return high
        return tirx.IfThenElse(tile < tiles.tall, high, tile_of(tiles.height - 1, wide, columns, panel, tile, slot, block))

    def rows_of(wide: int, columns: int, panel: tirx.Expr, group: tirx.Expr) -> tirx.Stmt:
        def one(block: tirx.Expr, inside: tirx.Expr) -> tirx.Stmt:
            tile = group * together + inside
            body = both_heights(wide, columns, panel, tile, inside if keep else number(0), block)
            return body if tiles.count % together == 0 else tirx.IfThenElse(tile < tiles.count, body, None)

        return loop("depth", depth_blocks, lambda block: loop("tile", together, lambda inside: one(block, inside)))

    def cell(index: tirx.Expr) -> tirx.Stmt:
        inner = blocks if point["panels_outside"] else panels
        first, second = tirx.floordiv(index, inner), tirx.floormod(index, inner)
        panel, group = (first, second) if point["panels_outside"] else (second, first)
        body = rows_of(vectors, width, panel, group) if full else None
        if rest:
            last = rows_of(-(-rest // lanes), rest, panel, group)
            body = tirx.IfThenElse(panel < full, body, last) if body is not None else last
        assert body is not None
        return holding([sums] if keep or long_tail else [], body)

    body = loop("cell", panels * blocks, cell, PARALLEL if parallel else SERIAL)
    body = holding([pairs] if pairs is not None else [], sequence(round_rows, body))
    parameters = [packed if parameter.same_as(product.right) else parameter for parameter in program.params]
    return as_schedule(program, parameters, body)


def nests(product: FusedProduct, machine: Machine, knobs: Mapping[str, str | bool | Column]) -> list[LoopNest]:
    lanes = machine.lanes()
    tile_rows, vectors, depth, block_rows = (np.asarray(knobs[name]) for name in ("tile_rows", "vectors", "depth", "block_rows"))
    count = -(-product.rows // tile_rows)
    height = product.rows / count
    together = np.minimum(count, -(-block_rows // np.maximum(1, np.ceil(height))))
    panels = Loop("panel", -(-product.columns // (vectors * lanes)), "parallel")
    groups = Loop("group", -(-count // together), "parallel")
    outer = (panels, groups) if knobs["panels_outside"] else (groups, panels)
    down: dict[str, Number] = {"group": together * height, "tile": height, "row": 1}
    across: dict[str, Number] = {"panel": vectors * lanes, "vector": lanes, "lane": 1}
    deep: dict[str, Number] = {"block": depth, "k": 1}
    loops = (
        *outer, Loop("block", -(-product.depth // depth), reduces=True), Loop("tile", together), Loop("k", depth, reduces=True),
        Loop("row", height, "unrolled"), Loop("vector", vectors, "unrolled"), Loop("lane", lanes, "vector"),
    )  # fmt: skip
    precision = knobs.get("precision", FULL)
    read = (dim(panel=product.depth * vectors * lanes), dim(block=depth, k=1), dim(vector=lanes, lane=1))
    operands = (
        Operand("x", 2 if precision == DOT else 4, "read", (dim(**down), dim(**deep))),
        Operand("w", 4 if precision == FULL else 2, "read", read),
        Operand("y", 4, "accumulate", (dim(**down), dim(**across))),
    )
    numbers: dict[str, Number] = {
        "unroll": np.asarray(knobs["unroll"]),
        "prefetch": int(bool(knobs["prefetch"])),
        "tail": product.tail,
        "functions": len(product.functions & MATH),
        **({"widened": int(precision == WIDENED), "dot": int(precision == DOT)} if "precision" in knobs else {}),
    }
    main = LoopNest(loops, operands, product.rows * product.columns * product.depth, numbers)
    return [main, rounding_nest(product.rows, product.depth, lanes)] if precision == DOT else [main]
