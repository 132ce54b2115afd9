"""A 3x3 convolution by Winograd's transforms, as another program: pixels and weights are transformed, multiplied as matrices, and back.

    for block of tiles, c:            V[p, c, t, 0:lanes] = B^T d B     (windows reach over the border: no padded copy)
    for panel of filters, block:
      for p, tiles, filters:          acc += broadcast(V[p, c, t]) * U[panel, p, c, 0:lanes]  (a tile in registers)
                                      M[p, t, k, 0:lanes] = acc
      for k, t:                       out[k, 2x2 or 4x4 pixels of t, 0:lanes] = relu(A^T M A + bias)

A block of tiles, transformed, and the products of one panel stay in the second-level cache. Either all blocks are transformed first, which
lets each panel of weights be read once for the image and shares filters out to the cores (`apart`), or each block just before it is
multiplied, which keeps large images in the cache.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.s_tir import Schedule

from schedules.cpu import winograd_transforms as transforms
from schedules.cpu.convolution import Convolution
from schedules.cpu.raw_loops import as_schedule, buffer, holding, loop, named, number, parallel, prefetch, sequence, unrolled, vector, where
from schedules.cpu.straight import Straight
from schedules.space import Array


@dataclass(frozen=True)
class Conv3x3(Convolution):
    """A dense one of 3x3 with unit strides, over `data` with a border of which `top` and `left` are parts."""

    top: int
    left: int

    @property
    def vector(self) -> str:
        """The type of a block of channels of one pixel."""
        return f"float32x{self.lanes}"

    def tiles(self, m: int) -> tuple[int, int]:
        """Rows and columns of m x m tiles."""
        return -(-self.shape[2] // m), -(-self.shape[3] // m)

    def tile_count(self, m: int) -> int:
        rows, columns = self.tiles(m)
        return self.shape[0] * rows * columns


@dataclass(frozen=True)
class Blocking:
    """One point: m x m results a tile; a register tile of `tile_t` tiles x `tile_k` vectors of filters; `groups` of those a block.

    With `prefetch`, weights of the next product are fetched while one is computed: 14x14 images of 256 channels gain a quarter.
    """

    m: int
    tile_k: int
    tile_t: int
    groups: int
    apart: bool
    prefetch: bool

    @property
    def block(self) -> int:
        return self.tile_t * self.groups

    @property
    def size(self) -> int:
        return self.m + 2

    @property
    def products(self) -> int:
        return self.size * self.size


def packed_weight(w: Array, point: Blocking) -> Array:
    """[K, C, 3, 3, c, k] -> [panel, p, C c, filters of a panel]."""
    k, c, _, _, inner, lanes = w.shape
    u = transforms.weights(w.transpose(0, 1, 4, 5, 2, 3), point.m)
    u = u.reshape(k // point.tile_k, point.tile_k, c, inner, lanes, point.products)
    return u.transpose(0, 5, 2, 3, 1, 4).reshape(k // point.tile_k, point.products, c * inner, point.tile_k * lanes)


def winograd(conv: Conv3x3, point: Blocking) -> Schedule:
    lanes, c_blocks = conv.lanes, conv.c_blocks
    panels = conv.shape[1] // point.tile_k
    blocks = -(-conv.tile_count(point.m) // point.block)
    u = buffer("weight", (panels, point.products, c_blocks * lanes, point.tile_k * lanes), scope="global")
    # one vector more than needed keeps the products of one tile out of one another's cache sets
    v = buffer("windows", (blocks if point.apart else 1, point.products, c_blocks * point.block + 1, lanes), scope="global")

    def multiply(panel: tirx.Expr, block: tirx.Expr, slot: tirx.Expr) -> tirx.Stmt:
        m = buffer("sums", (point.products, point.block * point.tile_k + 1), conv.vector, scope="global")
        gemm = multiplied(conv, point, u, v, m, panel, slot)
        return holding([m], sequence(gemm, finished(conv, point, m, panel, block)))

    if point.apart:
        first = parallel("window", blocks * c_blocks, lambda i: transformed(conv, point, v, i // c_blocks, i // c_blocks, i % c_blocks))
        second = parallel("panel", panels * blocks, lambda i: multiply(i // blocks, i % blocks, i % blocks))
        body = holding([v], sequence(first, second))
    else:
        zero = number(0)

        def one(block: tirx.Expr) -> tirx.Stmt:
            first = loop("c", c_blocks, lambda c: transformed(conv, point, v, block, zero, c))
            return holding([v], sequence(first, loop("panel", panels, lambda panel: multiply(panel, block, zero))))

        body = parallel("block", blocks, one)
    params = [u if param.same_as(conv.weight) else param for param in conv.program.params]
    return as_schedule(conv.program, params, body)


def place(conv: Conv3x3, point: Blocking, tile: tirx.Expr) -> list[tirx.Expr]:
    """The image of a tile, and the row and column of its first result."""
    rows, columns = conv.tiles(point.m)
    return [tile // (rows * columns), tile // columns % rows * point.m, tile % columns * point.m]


def transformed(conv: Conv3x3, point: Blocking, v: tirx.Buffer, block: tirx.Expr, slot: tirx.Expr, c: tirx.Expr) -> tirx.Stmt:
    """B^T d B for all tiles of a block and one block of channels. Tiles behind the last one repeat it.

    First every column of the window, then every row, in loops: written out they are no quicker, and compile for twice as long. So it is
    with a window at the border, which is copied first.
    """
    height, width = (int(extent) for extent in conv.data.shape[2:4])
    count, size = conv.tile_count(point.m), point.size
    rows, columns = conv.tiles(point.m)

    def one(t: tirx.Expr) -> tirx.Stmt:
        tile = tirx.min(block * point.block + t, number(count - 1)) if count % point.block else block * point.block + t
        return named(place(conv, point, tile), lambda image, row, column: placed(t, image, row - conv.top, column - conv.left))

    def placed(t: tirx.Expr, image: tirx.Expr, top: tirx.Expr, left: tirx.Expr) -> tirx.Stmt:
        half = buffer("half", (size * size,), conv.vector)

        inside = [top >= 0] if conv.top else []
        if (rows - 1) * point.m - conv.top + size > height:
            inside.append(top <= height - size)
        if conv.left:
            inside.append(left >= 0)
        if (columns - 1) * point.m - conv.left + size > width:
            inside.append(left <= width - size)
        window = buffer("window", (size * size, conv.lanes))

        def pixel(i: tirx.Expr, j: tirx.Expr, lane: tirx.Expr) -> tirx.Expr:
            """Of a window that reaches over the border, where there is nothing but zeros."""
            row, column = top + i, left + j
            there = tirx.all(row >= 0, row < height, column >= 0, column < width)
            return tirx.if_then_else(there, conv.data[image, c, row, column, lane], tirx.const(0, "float32"))

        def copied(at: tirx.Expr) -> tirx.Stmt:
            return vector(conv.lanes, lambda lane: tirx.BufferStore(window, pixel(at // size, at % size, lane), [at, lane]))

        def of_column(j: tirx.Expr, source: tirx.Buffer, index: Callable[[int, tirx.Expr], list[tirx.Expr]]) -> tirx.Stmt:
            code = Straight(conv.lanes, 8 * size)
            pixels = [code.hold(code.load(source, index(i, j))) for i in range(size)]
            for i, value in enumerate(transformed_line(code, pixels, point.m)):
                code.store(half, [i * size + j], value)
            return code.done()

        def of_row(i: tirx.Expr) -> tirx.Stmt:
            code = Straight(conv.lanes, 8 * size)
            for j, value in enumerate(transformed_line(code, [code.hold(code.load(half, [i * size + j])) for j in range(size)], point.m)):
                code.store(v, [slot, i * size + j, c * point.block + t], value)
            return code.done()

        plain = loop("j", size, lambda j: of_column(j, conv.data, lambda i, j: [image, c, top + i, left + j]))
        of_window = loop("j", size, lambda j: of_column(j, window, lambda i, j: [i * size + j]))
        zeros_around = sequence(loop("at", size * size, copied), of_window)
        checked = holding([window], zeros_around) if inside else None
        return holding([half], sequence(where(inside, plain, checked), loop("i", size, of_row)))

    return loop("t", point.block, one)


def transformed_line(code: Straight, d: list[tirx.Expr], m: int) -> list[tirx.Expr]:
    first, last = transforms.input_ends(d, m)
    values = [first]
    for even, odd, p in transforms.input_halves(d, m):
        even, odd = code.hold(even), code.hold(odd)
        values += [transforms.plus(even, p, odd), transforms.plus(even, -p, odd)]
    return [*values, last]


def multiplied(
    conv: Conv3x3, point: Blocking, u: tirx.Buffer, v: tirx.Buffer, m: tirx.Buffer, panel: tirx.Expr, slot: tirx.Expr
) -> tirx.Stmt:
    lanes, tile_k, tile_t = conv.lanes, point.tile_k, point.tile_t

    def tile(p: tirx.Expr, group: tirx.Expr) -> tirx.Stmt:
        acc = buffer("acc", (tile_t * tile_k,), conv.vector)

        def step(c: tirx.Expr, ci: tirx.Expr) -> tirx.Stmt:
            def one(t: tirx.Expr, k: tirx.Expr) -> tirx.Stmt:
                pixel = v[slot, p, c * point.block + group * tile_t + t, ci]
                weights = u.vload([panel, p, c * lanes + ci, k * lanes], conv.vector)
                return tirx.BufferStore(acc, acc[t * tile_k + k] + tirx.Broadcast(pixel, lanes) * weights, [t * tile_k + k])

            sums = unrolled("t", tile_t, lambda t: unrolled("k", tile_k, lambda k: one(t, k)))
            if not point.prefetch:
                return sums
            lines = -(-tile_k // point.groups)  # each group of tiles fetches its share of the weights of the next product
            line = (group * (conv.c_blocks * lanes) + c * lanes + ci) * lines
            return sequence(*(prefetch(u, [panel, p + 1, number(0), (line + k) * lanes]) for k in range(lines)), sums)

        def keep(i: tirx.Expr) -> tirx.Stmt:
            return tirx.BufferStore(m, acc[i], [p, group * (tile_t * tile_k) + i])

        zeros = unrolled("i", tile_t * tile_k, lambda i: tirx.BufferStore(acc, tirx.const(0.0, conv.vector), [i]))
        # one loop: of two, LLVM would write the outer one out where there are few channels
        sums = loop("c", conv.c_blocks * lanes, lambda c: step(c // lanes, c % lanes))
        kept = unrolled("i", tile_t * tile_k, keep)
        return holding([acc], sequence(zeros, sums, kept))

    return loop("p", point.products, lambda p: loop("group", point.groups, lambda group: tile(p, group)))


def finished(conv: Conv3x3, point: Blocking, sums: tirx.Buffer, panel: tirx.Expr, block: tirx.Expr) -> tirx.Stmt:
    """A^T M A and the tail, for all tiles of a block and one panel of filters."""
    size, m, lanes = point.size, point.m, conv.lanes
    count = conv.tile_count(m)
    rows, columns = conv.tiles(m)
    height, width = conv.shape[2:4]

    def one(k: tirx.Expr, t: tirx.Expr) -> tirx.Stmt:
        tile = block * point.block + t
        whole = named(place(conv, point, tile), lambda image, row, column: placed(k, t, image, row, column))
        return where([tile < count] if count % point.block else [], whole)

    def placed(k: tirx.Expr, t: tirx.Expr, image: tirx.Expr, row: tirx.Expr, column: tirx.Expr) -> tirx.Stmt:
        y, half = buffer("y", (m, lanes)), buffer("half", (m * size,), conv.vector)

        def line(code: Straight, values: list[tirx.Expr]) -> list[tirx.Expr]:
            pairs = list(zip(values[1:-1:2], values[2:-1:2], strict=True))
            added = [code.hold(a + b) for a, b in pairs]
            taken = [code.hold(a - b) for a, b in pairs]
            return transforms.outputs(values, added, taken, m)

        def of_column(j: tirx.Expr) -> tirx.Stmt:
            code = Straight(lanes, 8 * size)
            products = [code.hold(code.load(sums, [i * size + j, t * point.tile_k + k])) for i in range(size)]
            for i, value in enumerate(line(code, products)):
                code.store(half, [i * size + j], value)
            return code.done()

        def of_line(i: tirx.Expr) -> tirx.Stmt:
            code = Straight(lanes, 8 * size)
            for j, value in enumerate(line(code, [code.hold(code.load(half, [i * size + j])) for j in range(size)])):
                code.store(y, [number(j)], value)
            return code.done()

        def pixel(i: tirx.Expr, j: int) -> tirx.Stmt:
            return vector(lanes, lambda lane: conv.store((image, panel * point.tile_k + k, row + i, column + j, lane), y[number(j), lane]))

        def of_row(i: tirx.Expr) -> tirx.Stmt:
            stores = (where([column + j < width] if (columns - 1) * m + j >= width else [], pixel(i, j)) for j in range(m))
            return sequence(of_line(i), where([row + i < height] if rows * m > height else [], sequence(*stores)))

        return holding([y, half], sequence(loop("j", size, of_column), loop("i", m, of_row)))

    return loop("k", point.tile_k, lambda k: loop("t", point.block, lambda t: one(k, t)))
