"""Integer products in blocks of 16 columns: a tile of pixels x blocks stays in vector registers, and what follows is computed on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

from tvm import tirx
from tvm.ir import Range, TensorLoad
from tvm.s_tir import Schedule
from tvm.sym import Analyzer

from schedules.cpu.access import substitute
from schedules.cpu.dot_intrinsics import dot
from schedules.cpu.dot_requantize import Requantize, read_requantize
from schedules.cpu.dot_tail import DotProgram, replace_loops, uses
from schedules.machine import Machine
from schedules.space import Point

BLOCK = 16  # columns, and int32 lanes of 512 bits


@dataclass(frozen=True)
class Product:
    """The loops of a product: outer ones, pixels of a row, blocks of columns; then what is summed, four bytes at a step."""

    program: DotProgram
    outer: tuple[int, ...]
    pixels: int
    blocks: int
    depth: tuple[int, ...]
    x: TensorLoad
    w: TensorLoad

    @property
    def steps(self) -> int:
        """Multiply-adds."""
        return prod(self.outer) * self.pixels * self.blocks * BLOCK * prod(self.depth) * 4

    @property
    def columns(self) -> int:
        return self.program.tail.extents[-1]


def read_product(program: DotProgram) -> Product | None:
    block = program.sums
    value = block.body.value
    if not isinstance(value, tirx.Add) or not isinstance(value.b, tirx.Mul):
        return None
    x, w = (factor.value if isinstance(factor, tirx.Cast) else factor for factor in (value.b.a, value.b.b))
    if not isinstance(x, TensorLoad) or not isinstance(w, TensorLoad) or (str(x.ty), str(w.ty)) != ("uint8", "int8"):
        return None
    spatial = [int(a.dom.extent) for a in block.iter_vars if a.iter_type == tirx.IterVar.DataPar]
    depth = [int(a.dom.extent) for a in block.iter_vars if a.iter_type == tirx.IterVar.CommReduce]
    *outer, pixels, blocks, lanes = spatial
    *depth, four = depth
    if lanes != BLOCK or four != 4:
        return None
    product = Product(program, tuple(outer), pixels, blocks, tuple(depth), x, w)
    return product if follows(product) else None


def follows(product: Product) -> bool:
    """Whether the tail takes each sum for one element, in the order of the sums, and stores each element once."""
    tail, sums = product.program.tail, product.program.tail.sums
    analyzer = Analyzer()
    for axis, extent in zip(tail.axes, tail.extents, strict=True):
        analyzer.bind(axis, Range.from_min_extent(0, extent))
    *pixels, column = tail.axes
    kind = str(column.ty)
    rows = prod(product.outer) * product.pixels
    if prod(tail.extents[:-1]) != rows or not (product.blocks - 1) * BLOCK < tail.extents[-1] <= product.blocks * BLOCK:
        return False
    at = position(pixels, tail.extents[:-1], kind)
    for load in tail.loads():
        if load.source.same_as(sums):
            *where, block, lane = load.indices
            found = position(where, [int(e) for e in sums.shape[:-2]], kind)
            if not analyzer.can_prove_equal(found, at) or not analyzer.can_prove_equal(block * BLOCK + lane, column):
                return False
    return tail.flattens if len(pixels) != len(product.outer) + 1 else tuple(tail.extents[:-1]) == (*product.outer, product.pixels)


def position(indices: Sequence[tirx.Expr], extents: Sequence[int], kind: str) -> tirx.Expr:
    """The number of an element, counted row by row."""
    total: tirx.Expr = tirx.const(0, kind)
    for index, extent in zip(indices, extents, strict=True):
        total = total * tirx.const(extent, kind) + index
    return total


def fusible(product: Product) -> bool:
    """Whether the pixels of all rows are one row: in the image, in the result, and in all that follows reads."""
    node = product.program.sums
    axes = [axis.var for axis in node.iter_vars]
    count = len(product.outer)
    if any(uses(index, axes[:count]) for index in product.w.indices) or not product.program.tail.flattens:
        return False
    if len(product.x.indices) != count + 2 or [int(e) for e in product.x.source.shape[:-1]] != [*product.outer, product.pixels]:
        return False
    single = {axis.var: tirx.const(0, str(axis.var.ty)) for axis in node.iter_vars if int(axis.dom.extent) == 1}
    analyzer = Analyzer()
    pairs = zip(product.x.indices[:-1], axes[: count + 1], strict=True)
    return all(analyzer.can_prove_equal(substitute(index, single), substitute(axis, single)) for index, axis in pairs)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def loop(var: tirx.Var, extent: int, body: tirx.Stmt, kind: tirx.ForKind = tirx.ForKind.SERIAL) -> tirx.Stmt:
    return tirx.For(var, tirx.const(0, str(var.ty)), tirx.const(extent, str(var.ty)), kind, body)


def apply(product: Product, machine: Machine, point: Point, parallel: bool) -> Schedule:
    program = product.program
    kind = str(program.sums.iter_vars[0].var.ty)
    lanes = machine.lanes()
    vectors = BLOCK // lanes

    def const(value: int) -> tirx.Expr:
        return tirx.const(value, kind)

    def var(name: str) -> tirx.Var:
        return tirx.Var(name, kind)

    if point["fused"]:
        outer: tuple[int, ...] = (1,) * len(product.outer)
        pixels = product.pixels * prod(product.outer)
    else:
        outer, pixels = product.outer, product.pixels
    tile_p, tile_b, unroll = (int(point[name]) for name in ("pixels", "blocks", "unroll"))
    tile_p, tile_b = min(tile_p, pixels), min(tile_b, product.blocks)
    strips, groups = ceil_div(pixels, tile_p), ceil_div(product.blocks, tile_b)
    tiles = strips * prod(outer)
    chunk = min(int(point["chunk"]), tiles)
    chunks = ceil_div(tiles, chunk)

    acc = tirx.decl_buffer((tile_p * tile_b * BLOCK,), "int32", "acc", scope="local")
    every, tile, first_p, first_b = var("task"), var("tile"), var("first_pixel"), var("first_block")
    number = tirx.floordiv(every, const(groups * chunk)) * chunk + tirx.floormod(every, const(chunk))
    group = tirx.floormod(tirx.floordiv(every, const(chunk)), const(groups))
    where: list[tirx.Expr] = []
    rest: tirx.Expr = tirx.floordiv(tile, const(strips))
    for extent in reversed(outer):
        where.insert(0, tirx.floormod(rest, const(extent)) if extent > 1 else const(0))
        rest = tirx.floordiv(rest, const(extent))
    start_p = tirx.floormod(tile, const(strips)) * tile_p
    start_b = group * tile_b
    if pixels % tile_p:
        start_p = tirx.Min(start_p, const(pixels - tile_p))
    if product.blocks % tile_b:
        start_b = tirx.Min(start_b, const(product.blocks - tile_b))

    Body = Callable[[tirx.Expr, tirx.Expr, tirx.Expr], tirx.Stmt]

    def each_block(body: Body, p: tirx.Expr, halves: bool = True) -> tirx.Stmt:
        b, v = var("b"), var("v")
        if halves and vectors > 1:
            return loop(b, tile_b, loop(v, vectors, body(p, b, v * lanes), tirx.ForKind.UNROLLED), tirx.ForKind.UNROLLED)
        return loop(b, tile_b, body(p, b, const(0)), tirx.ForKind.UNROLLED)

    def registers(body: Body, halves: bool = True) -> tirx.Stmt:
        """`body` of a pixel, a block of columns, and the first column within it, for all of the tile."""
        p = var("p")
        return loop(p, tile_p, each_block(body, p, halves), tirx.ForKind.UNROLLED)

    def here(p: tirx.Expr, b: tirx.Expr, first: tirx.Expr) -> tirx.Expr:
        return (p * tile_b + b) * BLOCK + first

    def clear(p: tirx.Expr, b: tirx.Expr, first: tirx.Expr) -> tirx.Stmt:
        zero = tirx.Broadcast(tirx.const(0, "int32"), lanes)
        return tirx.BufferStore(acc, zero, [tirx.Ramp(here(p, b, first), const(1), lanes)])

    axes = [axis.var for axis in program.sums.iter_vars]
    steps = [var(f"k{index}") for index in range(len(product.depth))]
    inner = max((i for i, extent in enumerate(product.depth) if extent > 1), default=len(product.depth) - 1)
    size = product.depth[inner]
    unroll = unroll if size % unroll == 0 else 1
    step_in = var("u")
    at_steps: list[tirx.Expr] = [*steps]
    if unroll > 1:
        at_steps[inner] = steps[inner] * unroll + step_in

    def update(p: tirx.Expr, b: tirx.Expr, first: tirx.Expr) -> tirx.Stmt:
        values = dict(zip(axes, [*where, first_p + p, first_b + b, first, *at_steps, const(0)], strict=True))
        x = product.x.source.vload([substitute(i, values) for i in product.x.indices], "uint8x4")
        w = product.w.source.vload([substitute(i, values) for i in product.w.indices], f"int8x{lanes * 4}")
        old = acc.vload([here(p, b, first)], f"int32x{lanes}")
        every_lane = tirx.Broadcast(tirx.reinterpret("int32", x), lanes)
        new = dot(old, every_lane, tirx.reinterpret(f"int32x{lanes}", w), machine)
        return tirx.BufferStore(acc, new, [tirx.Ramp(here(p, b, first), const(1), lanes)])

    body = registers(update)
    if unroll > 1:
        body = loop(step_in, unroll, body, tirx.ForKind.UNROLLED)
    for index in reversed(range(len(product.depth))):
        body = loop(steps[index], product.depth[index] // (unroll if index == inner else 1), body)

    tail = program.tail
    requantize = read_requantize(tail.store.value) if tail.contiguous else None
    pixel_at = [const(0)] * (len(tail.axes) - 2) if point["fused"] else where

    def plain(p: tirx.Expr, b: tirx.Expr, first: tirx.Expr) -> tirx.Stmt:
        lane = var("lane")
        column = (first_b + b) * BLOCK + lane
        store = tail.at([*pixel_at, first_p + p, column], acc.vload([here(p, b, lane)], "int32"))
        if product.columns < product.blocks * BLOCK:
            store = tirx.IfThenElse(column < const(product.columns), store, None)
        return loop(lane, BLOCK, store, tirx.ForKind.VECTORIZED)

    def whole(requantize: Requantize, p: tirx.Expr, b: tirx.Expr, first: tirx.Expr) -> tirx.Stmt:
        lane = var("lane")
        at = [*pixel_at, first_p + p, (first_b + b) * BLOCK + first + lane]
        value = tail.value_at(requantize.whole(), at, acc.vload([here(p, b, first + lane)], "int32"))
        return loop(lane, lanes, tirx.BufferStore(acc, value, [here(p, b, first + lane)]), tirx.ForKind.VECTORIZED)

    def packed(requantize: Requantize, p: tirx.Expr) -> tirx.Stmt:
        stores: list[tirx.Stmt] = []
        at = 0
        count = tile_b * vectors
        while at < count:
            size = next(n for n in (4, 2, 1) if n <= count - at)
            values = [acc.vload([p * tile_b * BLOCK + (at + i) * lanes], f"int32x{lanes}") for i in range(size)]
            column = tirx.Ramp(first_b * BLOCK + at * lanes, const(1), size * lanes)
            indices = tail.indices_at([*pixel_at, first_p + p, column])
            stores.append(tirx.BufferStore(tail.store.buffer, requantize.packed(values, lanes), indices))
            at += size
        return tirx.SeqStmt(stores) if len(stores) > 1 else stores[0]

    ragged = product.columns < product.blocks * BLOCK
    stored = registers(plain, halves=False)
    if requantize is not None:
        p: tirx.Expr = var("p")
        row = tirx.SeqStmt([each_block(partial(whole, requantize), p), packed(requantize, p)])
        fast = loop(p, tile_p, row, tirx.ForKind.UNROLLED)
        stored = tirx.IfThenElse((first_b + tile_b) * BLOCK <= const(product.columns), fast, stored) if ragged else fast

    work: tirx.Stmt = tirx.SeqStmt([tirx.Bind(first_p, start_p), tirx.Bind(first_b, start_b), registers(clear), body, stored])
    if tiles % chunk:
        work = tirx.IfThenElse(tile < const(tiles), work, None)
    work = tirx.SeqStmt([tirx.Bind(tile, number), work])
    nest = loop(every, chunks * chunk * groups, work, tirx.ForKind.PARALLEL if parallel else tirx.ForKind.SERIAL)
    return replace_loops(program, nest, [acc], machine)
