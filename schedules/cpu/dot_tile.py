"""Integer products in blocks of 16 columns: a tile of pixels x blocks stays in vector registers, and what follows is computed on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tvm import tirx
from tvm.ir import Range, TensorLoad
from tvm.s_tir import Schedule
from tvm.sym import Analyzer

from schedules.cpu.access import substitute
from schedules.cpu.dot_finish import BLOCK, Tile
from schedules.cpu.dot_intrinsics import dot
from schedules.cpu.dot_loops import KIND, const, loop, unrolled, var
from schedules.cpu.dot_tail import DotProgram, factors, replace_loops, uses
from schedules.cpu.raw_loops import prefetch
from schedules.machine import Machine
from schedules.space import Point


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
    def weights_vary(self) -> bool:
        """Whether the outer loops have weights of their own."""
        axes = [axis.var for axis in self.program.sums.iter_vars]
        return any(uses(index, axes[: len(self.outer)]) for index in self.w.indices)

    @property
    def columns(self) -> int:
        return self.program.tail.extents[-1]


def read_product(program: DotProgram) -> Product | None:
    block, found = program.sums, factors(program)
    if found is None:
        return None
    x, w = found
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


def apply(product: Product, machine: Machine, point: Point, parallel: bool) -> Schedule:
    program, fused = product.program, bool(point["fused"])
    outer = (1,) * len(product.outer) if fused else product.outer
    pixels = product.pixels * (prod(product.outer) if fused else 1)
    tile_p, tile_b = min(int(point["pixels"]), pixels), min(int(point["blocks"]), product.blocks)
    strips, groups = ceil_div(pixels, tile_p), ceil_div(product.blocks, tile_b)
    tiles = strips * prod(outer)
    chunk = ceil_div(tiles, ceil_div(tiles, int(point["chunk"])))  # of all the same size
    tasks = ceil_div(tiles, chunk) * chunk * groups

    task, number, first_p, first_b = var("task"), var("tile"), var("first_pixel"), var("first_block")
    where: list[tirx.Expr] = []
    rest: tirx.Expr = tirx.floordiv(number, const(strips))
    for extent in reversed(outer):
        where.insert(0, tirx.floormod(rest, const(extent)) if extent > 1 else const(0))
        rest = tirx.floordiv(rest, const(extent))
    lead = [const(0)] * (len(program.tail.axes) - 2) if fused else where
    tile = Tile(
        tail=program.tail,
        acc=tirx.decl_buffer((tile_p * tile_b * BLOCK,), "int32", "acc", scope="local"),
        pixels=tile_p,
        blocks=tile_b,
        at=lambda p: [*lead, first_p + p],
        first=first_b * BLOCK,
        columns=product.columns,
        ragged=product.columns < product.blocks * BLOCK,
        machine=machine,
    )
    starts = [
        tirx.Bind(first_p, overlapping(tirx.floormod(number, const(strips)), tile_p, pixels)),
        tirx.Bind(first_b, overlapping(tirx.floormod(tirx.floordiv(task, const(chunk)), const(groups)), tile_b, product.blocks)),
    ]
    turn = tirx.floormod(task, const(chunk))
    ahead = Ahead(turn, chunk, first_b + tile_b, tile_b) if point["prefetch"] and groups > 1 else None
    sums = add_products(product, tile, where, first_p, first_b, int(point["unroll"]), ahead)
    work: tirx.Stmt = tirx.SeqStmt([*starts, tile.start(), sums, tile.finish()])
    if tiles % chunk:
        work = tirx.IfThenElse(number < const(tiles), work, None)
    which = tirx.floordiv(task, const(groups * chunk)) * chunk + turn
    kind = tirx.ForKind.PARALLEL if parallel else tirx.ForKind.SERIAL
    return replace_loops(program, loop(task, tasks, tirx.SeqStmt([tirx.Bind(number, which), work]), kind), [tile.acc], machine)


def overlapping(index: tirx.Expr, size: int, total: int) -> tirx.Expr:
    """Where tile `index` of `size` begins: the last overlaps the one before, where they do not divide `total`."""
    start = index * size
    return tirx.Min(start, const(total - size)) if total % size else start


@dataclass(frozen=True)
class Ahead:
    """The weights of the next group of `blocks`, from block `first` on. Tile `turn` of `turns` fetches its part, a line or a few a step."""

    turn: tirx.Expr
    turns: int
    first: tirx.Expr
    blocks: int

    def lines(self, product: Product, where: Sequence[tirx.Expr], steps: Sequence[tirx.Expr]) -> list[tirx.Stmt]:
        """Lines of a group lie one after another, in the order of steps. Those behind the last group do no harm."""
        done = self.turn * prod(product.depth) + position(steps, product.depth, KIND)
        line = tirx.floordiv(done * self.blocks, const(self.turns))
        axes = [axis.var for axis in product.program.sums.iter_vars]
        zeros = [const(0)] * (len(steps) - 1)
        statements = []
        for extra in range(ceil_div(self.blocks, self.turns)):
            values = dict(zip(axes, [*where, const(0), self.first, const(0), *zeros, line + extra, const(0)], strict=True))
            statements.append(prefetch(product.w.source, [substitute(index, values) for index in product.w.indices]))
        return statements


def add_products(
    product: Product,
    tile: Tile,
    where: Sequence[tirx.Expr],
    first_p: tirx.Expr,
    first_b: tirx.Expr,
    unroll: int,
    ahead: Ahead | None,
) -> tirx.Stmt:
    """The reduction, `unroll` steps of its innermost loop at once. Each fetches weights that are `ahead` as well."""
    axes = [axis.var for axis in product.program.sums.iter_vars]
    inner = max((index for index, extent in enumerate(product.depth) if extent > 1), default=len(product.depth) - 1)
    unroll = unroll if product.depth[inner] % unroll == 0 else 1
    steps, within = [var(f"k{index}") for index in range(len(product.depth))], var("u")
    at: list[tirx.Expr] = [*steps]
    if unroll > 1:
        at[inner] = steps[inner] * unroll + within

    def update(p: tirx.Expr, b: tirx.Expr, first: tirx.Expr) -> tirx.Stmt:
        values = dict(zip(axes, [*where, first_p + p, first_b + b, first, *at, const(0)], strict=True))
        x = product.x.source.vload([substitute(index, values) for index in product.x.indices], "uint8x4")
        w = product.w.source.vload([substitute(index, values) for index in product.w.indices], f"int8x{tile.lanes * 4}")
        every_lane = tirx.Broadcast(tirx.reinterpret("int32", x), tile.lanes)
        return tile.keep(dot(tile.sum_at(p, b, first), every_lane, tirx.reinterpret(f"int32x{tile.lanes}", w), tile.machine), p, b, first)

    body = tile.registers(update)
    if ahead is not None:
        body = tirx.SeqStmt([body, *ahead.lines(product, where, at)])
    if unroll > 1:
        body = unrolled(within, unroll, body)
    for index in reversed(range(len(product.depth))):
        body = loop(steps[index], product.depth[index] // (unroll if index == inner else 1), body)
    return body
