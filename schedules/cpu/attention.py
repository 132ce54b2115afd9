"""Attention in one nest: a few rows of scores at a time, which stay in the first-level cache from their products to their last use.

for batch, head, part in parallel:
  panels = k^T of this head                                       vectors of keys; lanes without a key get a score of minus infinity
  values = v of this head, if `copy_values`                       rows of all heads lie far apart, often in the same few sets of the cache
  for tile of rows:
    scores[r, :] = sum over d of q[r, d] * panels[d, :]           in registers, as every product; scaled and masked as they are stored
    scores[r, :] = exp(scores[r, :] - max);  total[r] = sum
    out[r, :] = sum over keys of scores[r, t] * v[t, :] / total[r]
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule

from schedules.cpu.access import blocks_of
from schedules.cpu.matmul import PARALLEL_STEPS, TILE_ROWS, Tiles
from schedules.cpu.raw_loops import PARALLEL, SERIAL, UNROLLED, VECTOR, as_schedule, buffer, holding, loop, number, sequence
from schedules.loopnest import Column, Loop, LoopNest, Number, Operand, dim
from schedules.machine import Machine
from schedules.space import Point, Space

BLOCK, SCALE = "attention_scores", "stack.attention_scale"
LOWEST = -3.0e38  # a score that weighs nothing
ENOUGH_ROWS = 32  # each reads all values, so that their copy costs a few per cent of that


@dataclass(frozen=True)
class Attention:
    """The extents and operands of one attention."""

    batch: int
    rows: int
    heads: int
    depth: int
    keys: int
    columns: int
    scale: float
    q: tirx.Buffer
    k: tirx.Buffer
    v: tirx.Buffer
    mask: tirx.Buffer | None
    out: tirx.Buffer


def read_attention(program: tirx.PrimFunc) -> Attention | None:
    if program.attrs is None or SCALE not in program.attrs:
        return None
    sch = Schedule(program)
    if not any(str(sch.get(block).name_hint) == BLOCK for block in blocks_of(sch)):
        return None
    q, k, v, *mask, out = program.params
    batch, rows, heads, depth = (int(extent) for extent in q.shape)
    scale = float(program.attrs[SCALE])
    return Attention(batch, rows, heads, depth, int(k.shape[1]), int(v.shape[3]), scale, q, k, v, mask[0] if mask else None, out)


def attention(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    found = read_attention(program)
    if found is None:
        return None
    lanes = machine.lanes()
    tiles = [rows for rows in TILE_ROWS if rows <= found.rows]
    wide = [count for count in (1, 2, 3, 4) if (count - 1) * lanes < found.keys]
    columns = [count for count in (1, 2, 3, 4) if (count - 1) * lanes < found.columns]

    def legal(point: Point) -> bool:
        rows = int(point["tile_rows"])
        return all(rows * count + count + 1 <= machine.vector_registers for count in (int(point["vectors"]), int(point["columns"])))

    def loads(point: Mapping[str, int]) -> float:
        rows = found.rows / Tiles.of(found.rows, point["tile_rows"]).count
        return sum(
            (-(-length // (count * lanes)) * count * lanes / length) * (1 + 0.25 * (1 / rows + 1 / count)) * max(1.0, 8 / (rows * count))
            for length, count in ((found.keys, point["vectors"]), (found.columns, point["columns"]))
        )

    points = [{"tile_rows": r, "vectors": v, "columns": c} for r in tiles for v in wide for c in columns]
    best = min((point for point in points if legal(point)), key=loads)
    alone = found.batch * found.heads
    parts = 1 if alone >= 2 * machine.cores else min(4, 2 * machine.cores // alone)
    parts = max(count for count in (1, 2, 4) if count <= parts)
    return Space(
        rule="attention",
        knobs={"tile_rows": tiles, "vectors": wide, "columns": columns, "parts": (1, 2, 4), "copy_values": (False, True)},
        default={**best, "parts": parts, "copy_values": found.heads > 1 and found.rows // parts >= ENOUGH_ROWS},
        legal=legal,
        apply=lambda point: apply(program, found, machine, point),
        nests=partial(nests, found, machine),
    )


def real(value: float) -> tirx.Expr:
    return tirx.const(value, "float32")


def apply(program: tirx.PrimFunc, a: Attention, machine: Machine, point: Point) -> Schedule:
    lanes, vectors, per_panel = machine.lanes(), int(point["vectors"]), int(point["vectors"]) * machine.lanes()
    panels = -(-a.keys // per_panel)
    wide, whole = int(point["columns"]), -(-a.columns // lanes)
    tiles = Tiles.of(a.rows, int(point["tile_rows"]))
    parts = min(int(point["parts"]), tiles.count)
    together = -(-tiles.count // parts)
    turned, scores = buffer("turned", (panels, a.depth, per_panel)), buffer("scores", (tiles.height, panels * per_panel))
    inverse, values = buffer("inverse", (tiles.height,)), buffer("values", (a.keys, whole * lanes))
    copied = bool(point["copy_values"])

    def lane_loop(body: Callable[..., tirx.Stmt], count: int = lanes) -> tirx.Stmt:
        return loop("lane", count, body, VECTOR)

    def turn(b: tirx.Expr, h: tirx.Expr) -> tirx.Stmt:
        """Keys in panels, transposed; zeros behind the last."""

        def one(panel: tirx.Expr, c: tirx.Expr) -> tirx.Stmt:
            key = panel * per_panel + c
            copy = loop("d", a.depth, lambda d: tirx.BufferStore(turned, a.k[b, key, h, d], [panel, d, c]))
            if a.keys % per_panel == 0:
                return copy
            nothing = loop("d", a.depth, lambda d: tirx.BufferStore(turned, real(0), [panel, d, c]))
            return tirx.IfThenElse(key < a.keys, copy, nothing)

        return loop("panel", panels, lambda panel: loop("c", per_panel, lambda c: one(panel, c)))

    def copy_values(b: tirx.Expr, h: tirx.Expr) -> tirx.Stmt:
        def part(t: tirx.Expr, start: int) -> tirx.Stmt:
            return lane_loop(lambda c: tirx.BufferStore(values, a.v[b, t, h, start + c], [t, start + c]), min(lanes, a.columns - start))

        return loop("t", a.keys, lambda t: sequence(*(part(t, start) for start in range(0, a.columns, lanes))))

    def value_at(b: tirx.Expr, h: tirx.Expr, t: tirx.Expr, column: tirx.Expr) -> tirx.Expr:
        return values[t, column] if copied else a.v[b, t, h, column]

    def score(value: tirx.Expr, b: tirx.Expr, h: tirx.Expr, row: tirx.Expr, key: tirx.Expr) -> tirx.Expr:
        value = value * real(a.scale)
        inside = key if a.keys % per_panel == 0 else tirx.min(key, number(a.keys - 1))
        if a.mask is not None:
            at = [i if int(extent) != 1 else number(0) for i, extent in zip((b, h, row, inside), a.mask.shape, strict=True)]
            value = value + a.mask[tuple(at)]
        return value if a.keys % per_panel == 0 else tirx.Select(key < a.keys, value, real(LOWEST))

    def weigh(height: int, b: tirx.Expr, h: tirx.Expr, first: tirx.Expr) -> tirx.Stmt:
        """The scores of a tile's rows."""
        acc = buffer("acc", (height, vectors, lanes))

        def each(body: Callable[..., tirx.Stmt]) -> tirx.Stmt:
            def row(r: tirx.Expr) -> tirx.Stmt:
                return loop("v", vectors, lambda v: lane_loop(lambda c: body(r, v, c)), UNROLLED)

            return loop("r", height, row, UNROLLED)

        def panel_of(panel: tirx.Expr) -> tirx.Stmt:
            def step(d: tirx.Expr) -> tirx.Stmt:
                return each(
                    lambda r, v, c: tirx.BufferStore(
                        acc, acc[r, v, c] + a.q[b, first + r, h, d] * turned[panel, d, v * lanes + c], [r, v, c]
                    )
                )

            def keep(r: tirx.Expr, v: tirx.Expr, c: tirx.Expr) -> tirx.Stmt:
                key = panel * per_panel + v * lanes + c
                return tirx.BufferStore(scores, score(acc[r, v, c], b, h, first + r, key), [r, key])

            zero = each(lambda r, v, c: tirx.BufferStore(acc, real(0), [r, v, c]))
            return holding([acc], sequence(zero, loop("d", a.depth, step), each(keep)))

        return loop("panel", panels, panel_of)

    def soften(height: int) -> tirx.Stmt:
        """Exponentials of a tile's scores, and one over the sum of each row."""
        part, top = buffer("part", (lanes,)), buffer("top", (1,))
        zero, many = number(0), panels * vectors

        def halves(combine: Callable[[tirx.Expr, tirx.Expr], tirx.Expr]) -> list[tirx.Stmt]:
            """All lanes of `part` combined in its first."""
            widths = [lanes >> step for step in range(1, lanes.bit_length())]
            return [lane_loop(lambda c, w=w: tirx.BufferStore(part, combine(part[c], part[c + w]), [c]), w) for w in widths]

        def row(r: tirx.Expr) -> tirx.Stmt:
            def exponential(v: tirx.Expr, c: tirx.Expr) -> tirx.Expr:
                return tirx.exp(scores[r, v * lanes + c] - top[zero])

            def both(v: tirx.Expr) -> tirx.Stmt:
                return sequence(
                    lane_loop(lambda c: tirx.BufferStore(scores, exponential(v, c), [r, v * lanes + c])),
                    lane_loop(lambda c: tirx.BufferStore(part, part[c] + scores[r, v * lanes + c], [c])),
                )

            return sequence(
                lane_loop(lambda c: tirx.BufferStore(part, real(LOWEST), [c])),
                loop("v", many, lambda v: lane_loop(lambda c: tirx.BufferStore(part, tirx.max(part[c], scores[r, v * lanes + c]), [c]))),
                *halves(tirx.max),
                tirx.BufferStore(top, part[zero], [zero]),
                lane_loop(lambda c: tirx.BufferStore(part, real(0), [c])),
                loop("v", many, both),
                *halves(tirx.Add),
                tirx.BufferStore(inverse, real(1) / part[zero], [r]),
            )

        return holding([part, top], loop("r", height, row))

    def mix(height: int, b: tirx.Expr, h: tirx.Expr, first: tirx.Expr) -> tirx.Stmt:
        """The rows of the result."""

        def panel_of(start: int, count: int) -> tirx.Stmt:
            acc = buffer("acc", (height, count, lanes))

            def each(body: Callable[..., tirx.Stmt]) -> tirx.Stmt:
                def row(r: tirx.Expr) -> tirx.Stmt:
                    vectors_of = [
                        lane_loop(lambda c, v=v: body(r, number(v), c), min(lanes, a.columns - (start + v) * lanes)) for v in range(count)
                    ]
                    return sequence(*vectors_of)

                return loop("r", height, row, UNROLLED)

            def step(t: tirx.Expr) -> tirx.Stmt:
                return each(
                    lambda r, v, c: tirx.BufferStore(
                        acc, acc[r, v, c] + scores[r, t] * value_at(b, h, t, (start + v) * lanes + c), [r, v, c]
                    )
                )

            zero = each(lambda r, v, c: tirx.BufferStore(acc, real(0), [r, v, c]))
            done = each(lambda r, v, c: tirx.BufferStore(a.out, acc[r, v, c] * inverse[r], [b, first + r, h, (start + v) * lanes + c]))
            return holding([acc], sequence(zero, loop("t", a.keys, step), done))

        return sequence(*(panel_of(start, min(wide, whole - start)) for start in range(0, whole, wide)))

    def tile_of(height: int, b: tirx.Expr, h: tirx.Expr, first: tirx.Expr) -> tirx.Stmt:
        return sequence(weigh(height, b, h, first), soften(height), mix(height, b, h, first))

    def cell(index: tirx.Expr) -> tirx.Stmt:
        head, part = tirx.floordiv(index, parts), tirx.floormod(index, parts)
        b, h = tirx.floordiv(head, a.heads), tirx.floormod(head, a.heads)

        def one(inside: tirx.Expr) -> tirx.Stmt:
            tile = part * together + inside
            first = tiles.start(tile)
            body = tile_of(tiles.height, b, h, first)
            if tiles.tall != tiles.count:
                body = tirx.IfThenElse(tile < tiles.tall, body, tile_of(tiles.height - 1, b, h, first))
            return body if parts * together == tiles.count else tirx.IfThenElse(tile < tiles.count, body, None)

        kept = [turned, scores, inverse, *([values] if copied else [])]
        return holding(kept, sequence(turn(b, h), copy_values(b, h) if copied else None, loop("tile", together, one)))

    steps = a.batch * a.heads * a.rows * a.keys * (a.depth + a.columns)
    parallel = steps >= PARALLEL_STEPS and machine.cores > 1
    body = loop("cell", a.batch * a.heads * parts, cell, PARALLEL if parallel else SERIAL)
    return as_schedule(program, program.params, body)


def nests(a: Attention, machine: Machine, knobs: Mapping[str, str | bool | Column]) -> list[LoopNest]:
    lanes = machine.lanes()
    tile_rows, vectors, columns, parts = (np.asarray(knobs[name]) for name in ("tile_rows", "vectors", "columns", "parts"))
    count = -(-a.rows // tile_rows)
    height, heads = a.rows / count, a.batch * a.heads
    outer = (Loop("head", heads, "parallel"), Loop("part", np.minimum(parts, count), "parallel"), Loop("tile", -(-count // parts)))

    def product(width: int, depth: int, vectors: Column) -> LoopNest:
        loops = (
            *outer, Loop("panel", -(-width // (vectors * lanes))), Loop("k", depth, reduces=True),
            Loop("row", height, "unrolled"), Loop("vector", vectors, "unrolled"), Loop("lane", lanes, "vector"),
        )  # fmt: skip
        row, column = dim(part=-(-count // parts) * height, tile=height, row=1), dim(panel=vectors * lanes, vector=lanes, lane=1)
        operands = (
            Operand("x", 4, "read", (dim(head=1), row, dim(k=1))),
            Operand("w", 4, "read", (dim(head=1), dim(k=1), column)),
            Operand("y", 4, "accumulate", (dim(head=1), row, column)),
        )
        moved = a.depth + (a.columns if knobs["copy_values"] else 0)
        numbers: dict[str, Number] = {"packed": parts * heads * a.keys * moved, "exponentials": heads * a.rows * a.keys}
        return LoopNest(loops, operands, heads * a.rows * width * depth, numbers)

    found = [product(a.keys, a.depth, vectors), product(a.columns, a.keys, columns)]
    return sorted(found, key=lambda nest: -float(np.max(nest.steps)))
