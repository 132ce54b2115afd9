"""A convolution as the product of its pixels and its filters, which the loops of products with constant weights compute (matmul.py).

    for n, k, h, w, lane, c, r, s, ci: y[k, h, w, lane] += x[c, h + r, w + s, ci] * f[k, c, r, s, ci, lane]
 ->
    for m, j, d:                       y[m, j] += x(m, d) * panels[...]        m: pixels in one row, j: filters, d: (c, r, s, ci)

Tiles of any number of pixels walk on from one row of the image to the next, filters are packed into panels that are read in one forward
stream, the next panel is fetched ahead, and the reduction may be cut so that a panel's rows stay near. That pays for 1x1 filters, whose
pixels lie one behind the other: 7x7 images reach 160 instead of 110 GFLOP/s a core, 14x14 ones 165 instead of 147. Where the user allows
it, filters may be in bfloat16 as weights of products are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu import matmul
from schedules.cpu.bf16 import FULL, pack_pairs, precisions
from schedules.cpu.convolution import Convolution, loads, read_convolution, steps
from schedules.cpu.fused_product import FusedProduct, operations
from schedules.cpu.raw_loops import number, substitute
from schedules.loopnest import Column, LoopNest
from schedules.machine import Machine
from schedules.space import Array, Point, Value

ALGORITHM = "product"
TILE_ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 24, 28)
VECTORS = (1, 2, 3, 4)
TOGETHER = (1, 2, 4, 8, 16, 32)  # tiles that use one part of a panel before the next
DEEP = 96  # multiply-adds for each result: shorter sums do not pay for finding out where a tile's pixels lie


@dataclass(frozen=True)
class ConvProduct:
    """What products add to the space of a convolution, on `machine`. In a `contiguous` one, pixels of a tile lie one behind the other."""

    conv: Convolution
    product: FusedProduct
    machine: Machine
    contiguous: bool

    @cached_property
    def inner(self) -> int:
        """Channels in a block of the image; parts of the reduction begin at one."""
        return int(self.conv.weight.shape[4])

    @cached_property
    def knobs(self) -> dict[str, Sequence[Value]]:
        """By the names of the direct loops' where there is a like one."""
        lanes, rows = self.machine.lanes(), self.product.rows
        return {
            "tile_k": [wide for wide in VECTORS if wide * lanes <= self.product.columns],
            "tile_h": [tiles for tiles in TOGETHER if tiles == 1 or tiles <= rows],
            "tile_w": [tile for tile in TILE_ROWS if tile <= rows],
            "rows_outside": (False, True),
            "parts": [parts for parts in (1, 2, 3, 4, 6, 8) if parts * self.inner <= self.product.depth],
            "unroll": [unroll for unroll in (1, 2, 4) if self.inner % unroll == 0],
            "prefetch": (False, True),
            **({"precision": precisions(self.machine, self.product.depth)} if self.machine.reduced_precision else {}),
            "algorithm": (ALGORITHM,),
        }

    def fits(self, rows: int, vectors: int) -> bool:
        return rows * vectors + vectors + 1 <= self.machine.vector_registers

    def holds(self, point: Point) -> bool:
        known = self.knobs
        return all(point[name] in values for name, values in known.items()) and self.fits(int(point["tile_w"]), int(point["tile_k"]))

    def default(self) -> dict[str, Value] | None:
        """The tile of a like product, where this way is expected to be the quickest."""
        known = self.knobs
        if not self.contiguous or self.product.depth < DEEP or self.product.columns <= self.machine.lanes():
            return None
        tiles = [(int(rows), int(wide)) for rows in known["tile_w"] for wide in known["tile_k"] if self.fits(int(rows), int(wide))]
        chosen = matmul.choose(self.product, self.machine, tiles)
        narrow = [(rows, wide) for rows, wide in tiles if wide <= 2]
        if (
            chosen["prefetch"] and narrow and self.product.rows > int(chosen["tile_rows"])
        ):  # a step that needs few new weights waits less for them where they stream
            chosen = matmul.choose(self.product, self.machine, narrow)
        parts = -(-self.product.depth // int(chosen["depth"]))
        height = matmul.Tiles.of(self.product.rows, int(chosen["tile_rows"])).height
        return {
            "tile_k": chosen["vectors"],
            "tile_h": max(tiles for tiles in known["tile_h"] if int(tiles) <= max(1, -(-int(chosen["block_rows"]) // height))),
            "tile_w": chosen["tile_rows"],
            "rows_outside": not chosen["panels_outside"],
            "parts": max(known["parts"], key=lambda value: -abs(int(value) - parts)),
            "unroll": known["unroll"][-1],
            "prefetch": chosen["prefetch"],
            **({"precision": chosen["precision"]} if "precision" in chosen else {}),
            "algorithm": ALGORITHM,
        }

    def of_product(self, point: Mapping[str, str | bool | Column | Value]) -> dict[str, object]:
        """The same point, or points, in the words of the packed product."""
        rows, together, parts = (np.asarray(point[name]) for name in ("tile_w", "tile_h", "parts"))
        height = -(-self.product.rows // -(-self.product.rows // rows))
        return {
            "tile_rows": point["tile_w"],
            "vectors": point["tile_k"],
            "depth": -(-(self.product.depth // self.inner) // parts) * self.inner,
            "block_rows": together * height,
            "unroll": point["unroll"],
            "panels_outside": not point["rows_outside"],
            "prefetch": point["prefetch"],
            **({"precision": point["precision"]} if "precision" in point else {}),
        }

    def apply(self, point: Point) -> Schedule:
        named = self.of_product(point)
        sizes = {name: value if isinstance(value, bool | str) else int(np.asarray(value)) for name, value in named.items()}
        return matmul.apply(self.conv.program, self.product, self.machine, sizes)

    def pack(self, point: Point, constants: Sequence[Array]) -> list[Array]:
        where = self.conv.place_of_weights(constants)
        wide = int(point["tile_k"]) * self.machine.lanes()
        panels = matmul.pack(as_matrix(constants[where]), wide)
        panels = panels if point.get("precision", FULL) == FULL else pack_pairs(panels)
        return [panels if place == where else array for place, array in enumerate(constants)]

    def nests(self, knobs: Mapping[str, str | bool | Column]) -> Sequence[LoopNest]:
        columns: dict[str, str | bool | Column] = {
            name: value if isinstance(value, bool | str) else np.asarray(value) for name, value in self.of_product(knobs).items()
        }
        return matmul.nests(self.product, self.machine, columns)


def as_matrix(w: Array) -> Array:
    """[K, C, R, S, c, k] -> [C R S c, K k]."""
    return w.transpose(1, 2, 3, 4, 0, 5).reshape(-1, w.shape[0] * w.shape[5])


def conv_product(
    program: tirx.PrimFunc, sch: Schedule, block: SBlockRV, pad: SBlockRV | None, last: SBlockRV | None, machine: Machine
) -> ConvProduct | None:
    """The convolution `block` of `program`, whose tail is inlined into `last` in `sch`; None where it has groups or a border."""
    conv = read_convolution(program, sch, block, last)
    node = sch.get(block)
    if conv is None or conv.lanes != machine.lanes() or len(conv.data.shape) != 5 or len(node.iter_vars) != 9:
        return None
    n, _k, h, w, _o, c, r, s, ci = (axis.var for axis in node.iter_vars)
    _, c_blocks, kernel_h, kernel_w, inner, _ = (int(extent) for extent in conv.weight.shape)
    images, k_blocks, height, width, lanes = conv.shape
    if [int(extent) for extent in (conv.data.shape[1], conv.data.shape[4])] != [c_blocks, inner]:
        return None  # groups
    found = [steps(at, axes) for at, axes in zip(loads(node.body, conv.data)[0].indices[2:4], ((h, r), (w, s)), strict=True)]
    moved = [move for move in found if move is not None and move[2] == 0]
    if len(moved) != 2:
        return None
    source = conv.data
    if pad is not None:
        copy = sch.get(pad)
        source = copy.reads[0].source
        if any(steps(at, [axis.var]) != [1, 0] for at, axis in zip(loads(copy.body, source)[0].indices, copy.iter_vars, strict=True)):
            return None
        taps = zip(moved, (height, width), (kernel_h, kernel_w), source.shape[2:4], strict=True)
        if any((size - 1) * stride + (kernel - 1) * dilation >= int(most) for (stride, dilation, _), size, kernel, most in taps):
            return None  # it reads the border
    if source not in set(program.params):
        return None

    def pixel(row: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr, tirx.Expr]:
        image = tirx.floordiv(row, height * width) if images > 1 else number(0)
        line = tirx.floordiv(row, width)
        return image, tirx.floormod(line, height) if images > 1 else line, tirx.floormod(row, width)

    def element(row: tirx.Expr, depth: tirx.Expr) -> tirx.Expr:
        image, line, column = pixel(row)
        taps = kernel_h * kernel_w
        outer, tap = tirx.floordiv(depth, taps * inner), tirx.floormod(tirx.floordiv(depth, inner), taps)
        values = {n: image, h: line, w: column, c: outer, ci: tirx.floormod(depth, inner)}
        values |= {r: tirx.floordiv(tap, kernel_w), s: tirx.floormod(tap, kernel_w)} if taps > 1 else {r: number(0), s: number(0)}
        load = loads(node.body, conv.data)[0]
        return source[tuple(substitute(at, values) for at in load.indices)]

    def store(row: tirx.Expr, column: tirx.Expr, value: tirx.Expr) -> tirx.Stmt:
        image, line, across = pixel(row)
        return conv.store((image, tirx.floordiv(column, lanes), line, across, tirx.floormod(column, lanes)), value)

    functions, count = operations(conv.tail.value)
    depth = c_blocks * kernel_h * kernel_w * inner
    product = FusedProduct(images * height * width, k_blocks * lanes, depth, conv.weight, element, store, functions, count)
    strides = [move[0] for move in moved]
    sizes = [int(extent) for extent in source.shape[2:4]]
    contiguous = strides == [1, 1] and kernel_h * kernel_w == 1 and sizes == [height, width] and images == 1
    return ConvProduct(conv, product, machine, contiguous)
