"""Depthwise convolution of bytes, channels last: four rows of the window are one dot product in each lane, a channel.

    acc[n, h, w, c] += x[n, h + r, w + s, c] * f[r, s, c]

->  for n, strip of rows in parallel:
      rows = the rows of the image under the strip, with their border
      for blocks of channels:
        taps[s, 0:16] = f[0, s, 0:16] | f[1, s, 0:16] << 8 | f[2, s, 0:16] << 16                  four bytes a lane
        for h, tile of pixels:
          column = x[h, w, 0:16] | x[h + 1, w, 0:16] << 8 | x[h + 2, w, 0:16] << 16               used for each s that it lies under
          acc[p, 0:16] = dot(acc[p, 0:16], column, taps[s, 0:16])
          y[p, 0:16] = ...                                                                        the tail, in vectors
"""

from collections.abc import Mapping, Sequence

import numpy as np
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.s_tir import Schedule
from tvm.sym import Analyzer

from schedules.cpu.access import substitute
from schedules.cpu.dot_finish import BLOCK, Tile
from schedules.cpu.dot_intrinsics import dot
from schedules.cpu.dot_loops import const, loop, unrolled, var
from schedules.cpu.dot_pad import read_border
from schedules.cpu.dot_tail import DotProgram, factors, read, replace_loops
from schedules.cpu.dot_tile import ceil_div, overlapping
from schedules.cpu.loops import divisors
from schedules.loopnest import Column, Loop, LoopNest, Operand, dim
from schedules.machine import Machine
from schedules.space import Point, Space

NAME = "depthwise_conv2d_nhwc"
ROWS = 4  # of the window, in one lane
PARALLEL_STEPS = 1 << 18  # multiply-adds: the tail costs more than they do


def dot_depthwise(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    found = read(program, NAME, {"pad"})
    if found is None or factors(found) is None or machine.vector_bytes not in (32, 64):
        return None
    extents = [int(axis.dom.extent) for axis in found.sums.iter_vars]
    if len(extents) != 6 or not follows(found) or extents[3] < BLOCK:
        return None
    n, h, w, c, r, s = extents
    step, vectors = window(found)[0], BLOCK // machine.lanes()
    room = machine.vector_registers // vectors
    groups = ceil_div(r, ROWS)
    blocks = tuple(b for b in (1, 2, 3, 4) if b * BLOCK <= c)
    knobs = {"pixels": tuple(p for p in range(1, 17) if p <= w), "blocks": blocks, "rows": divisors(h, 32)}

    def legal(point: Point) -> bool:
        return int(point["pixels"]) * int(point["blocks"]) <= room

    def cost(pixels: int, blocks: int) -> tuple[float, int]:
        """Instructions for a row, about: the tail, the columns, the dot products."""
        tiles = ceil_div(w, pixels) * ceil_div(c, blocks * BLOCK)
        columns = (pixels - 1) * step + s
        packs = {4: 1.5, 2: 2.0}.get(blocks * vectors, 4.0)
        spills = max(0, pixels * blocks + 8 - room)
        return tiles * (blocks * (pixels * (5.5 + packs + s * groups) + columns * groups * 3 + spills * 2) + 12), -pixels

    shapes = [(p, b) for p in knobs["pixels"] for b in blocks if legal({"pixels": p, "blocks": b})]
    pixels, chosen = min(shapes, key=lambda shape: cost(shape[0], shape[1]))
    parallel = machine.cores > 1 and n * h * w * c * r * s >= PARALLEL_STEPS

    def apply(point: Point) -> Schedule:
        fresh = read(program, NAME, {"pad"})
        assert fresh is not None, "it was one before"
        return schedule(fresh, machine, point, parallel)

    return Space(
        rule="dot_depthwise",
        knobs=knobs,
        default={"pixels": pixels, "blocks": chosen, "rows": default_rows(found, machine, knobs["rows"])},
        apply=apply,
        legal=legal,
        nests=lambda columns: nests(found, machine, parallel, columns),
    )


def default_rows(program: DotProgram, machine: Machine, choices: Sequence[int]) -> int:
    """As many as leave tasks for all cores, and whose image stays in the first level."""
    n, h, _w, _c, r, _s = (int(axis.dom.extent) for axis in program.sums.iter_vars)
    image = program.sums.reads[0].source
    row_bytes, step = int(image.shape[2]) * int(image.shape[3]), max(1, int(image.shape[1]) // h)
    tasks = [rows for rows in choices if n * h // rows >= 4 * machine.cores] or [1]
    return max([rows for rows in tasks if (rows * step + r) * row_bytes <= machine.l1_bytes * 2 // 3] or [1])


def follows(program: DotProgram) -> bool:
    """Whether the tail takes each sum for the element at the same place."""
    tail = program.tail
    if len(tail.axes) != 4 or tail.extents != tuple(int(extent) for extent in tail.sums.shape):
        return False
    loads = [load for load in tail.loads() if load.source.same_as(tail.sums)]
    return all(index.same_as(axis) for load in loads for index, axis in zip(load.indices, tail.axes, strict=True))


def schedule(program: DotProgram, machine: Machine, point: Point, parallel: bool) -> Schedule:
    n, h, w, c, r, s = (int(axis.dom.extent) for axis in program.sums.iter_vars)
    found = factors(program)
    assert found is not None
    x, f = found
    blocks = int(point["blocks"])
    pixels = min(int(point["pixels"]), w)
    groups, quads, strips = ceil_div(c, blocks * BLOCK), ceil_div(r, ROWS), ceil_div(w, pixels)
    rows = int(point["rows"])
    task, strip, first_w, first_c = var("task"), var("strip"), var("first_pixel"), var("first_channel")
    group, row = var("group"), var("row")
    border = read_border(program.sch.get(program.ahead[0])) if program.ahead else None
    image, first_h = tirx.floordiv(task, const(h // rows)), tirx.floormod(task, const(h // rows)) * rows
    line = first_h + row
    stride, reach = window(program)
    lines = (rows - 1) * stride + reach
    local = tirx.decl_buffer((lines, *border.made[2:]), str(x.ty), "rows") if border is not None else None
    tile = Tile(
        tail=program.tail,
        acc=tirx.decl_buffer((pixels * blocks * BLOCK,), "int32", "acc", scope="local"),
        pixels=pixels,
        blocks=blocks,
        at=lambda p: [image, line, first_w + p],
        first=first_c,
        columns=c,
        ragged=False,
        machine=machine,
    )
    lanes = tile.lanes
    taps = tirx.decl_buffer((quads * s * blocks * BLOCK,), "int32", "taps", scope="local")
    axes = [axis.var for axis in program.sums.iter_vars]

    def four(load: TensorLoad, where: Sequence[tirx.Expr], quad: int, column: tirx.Expr) -> tirx.Expr:
        """The bytes of up to four rows of the window, in each lane from the lowest."""
        total: tirx.Expr | None = None
        for index in range(min(ROWS, r - quad * ROWS)):
            values = dict(zip(axes, [*where, const(quad * ROWS + index), column], strict=True))
            at, source = [substitute(i, values) for i in load.indices], load.source
            if local is not None and load.same_as(x):
                at, source = at[1:], local
            given = source.vload(at, f"{load.source.dtype}x{lanes}")
            wide = tirx.Cast(f"int32x{lanes}", tirx.reinterpret(f"uint8x{lanes}", given) if str(load.source.dtype) == "int8" else given)
            moved = wide << tirx.const(8 * index, f"int32x{lanes}") if index else wide
            total = moved if total is None else total | moved
        assert total is not None
        return total

    def slot(quad: int, column: tirx.Expr, b: tirx.Expr, first: tirx.Expr) -> tirx.Expr:
        return ((column + quad * s) * blocks + b) * BLOCK + first

    def prepare(quad: int) -> tirx.Stmt:
        column = var("s")

        def one(_p: tirx.Expr, b: tirx.Expr, first: tirx.Expr) -> tirx.Stmt:
            value = four(f, [const(0), const(0), const(0), first_c + b * BLOCK + first], quad, column)
            return tirx.BufferStore(taps, value, [tirx.Ramp(slot(quad, column, b, first), const(1), lanes)])

        return unrolled(column, s, tile.blocks_of(const(0), one))

    def products(quad: int) -> tirx.Stmt:
        p, column = var("p"), var("s")

        def one(p: tirx.Expr, b: tirx.Expr, first: tirx.Expr) -> tirx.Stmt:
            pixel = four(x, [image, row if local is not None else line, first_w + p, first_c + b * BLOCK + first], quad, column)
            weight = taps.vload([slot(quad, column, b, first)], f"int32x{lanes}")
            return tile.keep(dot(tile.sum_at(p, b, first), pixel, weight, machine), p, b, first)

        return unrolled(p, pixels, unrolled(column, s, tile.blocks_of(p, one)))

    start_w = tirx.Bind(first_w, overlapping(strip, pixels, w))
    inner = tirx.SeqStmt([start_w, tile.start(), *(products(quad) for quad in range(quads)), tile.finish()])
    channel = group * (blocks * BLOCK)
    start_c = tirx.Bind(first_c, tirx.Min(channel, const(c - blocks * BLOCK)) if c % (blocks * BLOCK) else channel)
    over_rows = loop(row, rows, loop(strip, strips, inner))
    body = loop(group, groups, tirx.SeqStmt([start_c, *(prepare(quad) for quad in range(quads)), over_rows]))
    if border is not None and local is not None:
        index = var("line")
        fill = border.row(local, [index], image, first_h * stride + index, machine.vector_bytes)
        body = tirx.SeqStmt([loop(index, lines, fill), body])
    nest = loop(task, n * h // rows, body, tirx.ForKind.PARALLEL if parallel else tirx.ForKind.SERIAL)
    return replace_loops(program, nest, [tile.acc, taps, *([local] if local is not None else [])], machine, keep_ahead=border is None)


def window(program: DotProgram) -> tuple[int, int]:
    """How far rows of the image lie apart for rows of the result, and how many one row of the result reads."""
    found = factors(program)
    assert found is not None
    axes = program.sums.iter_vars
    index = found[0].indices[1]
    zero = {axis.var: const(0) for axis in axes}

    def at(**values: int) -> int:
        chosen = {**zero, axes[1].var: const(values.get("h", 0)), axes[4].var: const(values.get("r", 0))}
        return int(Analyzer().simplify(substitute(index, chosen)))

    return at(h=1), at(r=int(axes[4].dom.extent) - 1) + 1


def nests(program: DotProgram, machine: Machine, parallel: bool, columns: Mapping[str, str | bool | Column]) -> list[LoopNest]:
    """Rows and blocks of channels outside, tiles of pixels inside them."""
    n, h, w, c, r, s = (int(axis.dom.extent) for axis in program.sums.iter_vars)
    pixels, blocks = (np.asarray(columns[name]) for name in ("pixels", "blocks"))
    pixels = np.minimum(pixels, w)
    groups, strips = -(-c // (blocks * BLOCK)), -(-w // pixels)
    lanes = machine.lanes()
    rows = np.asarray(columns["rows"])
    loops = (
        Loop("task", n * h // rows, "parallel" if parallel else "serial"),
        Loop("group", groups),
        Loop("row", rows),
        Loop("strip", strips),
        Loop("p", pixels, "unrolled"),
        Loop("s", s, "unrolled", reduces=True),
        Loop("b", blocks, "unrolled"),
        Loop("v", BLOCK // lanes, "unrolled"),
        Loop("lane", lanes, "vector"),
        Loop("r", r, "vector", reduces=True),
    )
    channel = dim(group=blocks * BLOCK, b=BLOCK, v=lanes, lane=1)
    item = np.dtype(str(program.tail.store.buffer.dtype)).itemsize
    operands = (
        Operand("x", 1, "read", (dim(task=rows, row=1, r=1), dim(strip=pixels, p=1, s=1), channel)),
        Operand("w", 1, "read", (dim(r=1), dim(s=1), channel)),
        Operand("y", item, "accumulate", (dim(task=rows, row=1), dim(strip=pixels, p=1), channel)),
    )
    steps = n * h * groups * strips * pixels * blocks * BLOCK * r * s
    return [LoopNest(loops, operands, steps, {"waste": steps / (n * h * w * c * r * s), "tail": float(len(program.tail.loads()))})]
