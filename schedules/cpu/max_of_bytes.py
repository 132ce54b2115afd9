"""The largest byte of each window, channels last: a vector of channels at a time, and no condition where a window lies inside.

    y[n, h, w, c] max= x[n, h * stride + r - top, w * stride + s - left, c] if inside else 0

->  for n, h in parallel, for w:
      rows and columns of the window that lie inside
      for channels by 64:
        if that is all of them:  y = max of R * S vectors, unrolled
        else:                    y = max over those rows and columns
"""

from dataclasses import dataclass
from math import prod

import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.s_tir import Schedule
from tvm.sym import Analyzer

from schedules.cpu.access import blocks_of, substitute
from schedules.cpu.nest import PARALLEL_WORK
from schedules.cpu.raw_loops import Body, as_schedule, buffer, holding, loop, loop_to, number, parallel, sequence, unrolled
from schedules.machine import Machine
from schedules.space import Point, Space

NAME = "max_of_bytes"
UNROLLED = 32  # loads of one window


@dataclass(frozen=True)
class Windows:
    """Row h of the result begins at row h * strides[0] - first[0] of x; columns likewise."""

    x: tirx.Buffer
    y: tirx.Buffer
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    first: tuple[int, int]

    def start(self, axis: int, at: tirx.Expr) -> tirx.Expr:
        return at * self.strides[axis] - self.first[axis]

    def inside(self, axis: int, at: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr]:
        """Which elements of the window that begins at `at` are in the image: the first, and the one behind the last."""
        kernel, step, size = self.kernel[axis], self.dilation[axis], int(self.x.shape[axis + 1])
        low = tirx.Max(number(0), tirx.floordiv(number(step - 1) - at, number(step)))
        high = tirx.Min(number(kernel), tirx.floordiv(number(size + step - 1) - at, number(step)))
        return low, high


def read_windows(program: tirx.PrimFunc) -> Windows | None:
    sch = Schedule(program)
    blocks = blocks_of(sch)
    if len(blocks) != 1 or str(sch.get(blocks[0]).name_hint) != NAME or len(program.params) != 2:
        return None
    node = sch.get(blocks[0])
    loads: list[TensorLoad] = []
    (y,) = (region.source for region in node.writes)
    tvm_ffi.structural_walk(node.body, (TensorLoad, loads.append))
    (load,) = (each for each in loads if not each.source.same_as(y))
    axes = [axis.var for axis in node.iter_vars]
    kernel = tuple(int(axis.dom.extent) for axis in node.iter_vars[4:])
    found = [coefficients(load.indices[axis + 1], axes[axis + 1], axes[axis + 4]) for axis in (0, 1)]
    first, strides, dilation = zip(*found, strict=True)
    return Windows(load.source, y, kernel, strides, dilation, tuple(-each for each in first))  # type: ignore[arg-type]  # two each


def coefficients(index: tirx.Expr, outer: tirx.Var, inner: tirx.Var) -> tuple[int, int, int]:
    """(c, a, b) of a * outer + b * inner + c."""
    kind, analyzer = str(outer.ty), Analyzer()

    def at(a: int, b: int) -> int:
        return int(analyzer.simplify(substitute(index, {outer: tirx.const(a, kind), inner: tirx.const(b, kind)})))

    return at(0, 0), at(1, 0) - at(0, 0), at(0, 1) - at(0, 0)


def max_of_bytes(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    windows = read_windows(program)
    if windows is None:
        return None
    return Space("max_of_bytes", default={}, apply=lambda point: apply(program, windows, machine, point))


def apply(program: tirx.PrimFunc, windows: Windows, machine: Machine, _point: Point) -> Schedule:
    n, height, width, channels = (int(extent) for extent in windows.y.shape)
    lanes = next(size for size in (64, 32, 16, 8, 4, 2, 1) if size <= min(machine.vector_bytes, channels))
    count = -(-channels // lanes)

    def row(which: tirx.Expr) -> tirx.Stmt:
        image, h = tirx.floordiv(which, number(height)), tirx.floormod(which, number(height))
        return loop("w", width, lambda w: pixel(windows, image, h, w, (count, lanes)))

    busy = machine.cores > 1 and n * height * width * channels * prod(windows.kernel) >= PARALLEL_WORK * lanes
    return as_schedule(program, [windows.x, windows.y], parallel("row", n * height, row) if busy else loop("row", n * height, row))


def pixel(windows: Windows, n: tirx.Expr, h: tirx.Expr, w: tirx.Expr, tiles: tuple[int, int]) -> tirx.Stmt:
    """All channels of one pixel of the result; the last vector overlaps the one before where there is no whole number of them."""
    count, lanes = tiles
    channels = int(windows.y.shape[3])
    row, column = tirx.Var("row", "int64"), tirx.Var("column", "int64")
    names = [tirx.Var(name, "int64") for name in ("low_r", "high_r", "low_s", "high_s")]
    bounds = [bound for axis, at in ((0, row), (1, column)) for bound in windows.inside(axis, at)]
    low_r, high_r, low_s, high_s = names
    whole = tirx.all(high_r - low_r == number(windows.kernel[0]), high_s - low_s == number(windows.kernel[1]))

    def tile(index: tirx.Expr) -> tirx.Stmt:
        c = tirx.Min(index * lanes, number(channels - lanes)) if channels % lanes else index * lanes
        best = buffer("best", (lanes,), "uint8")
        at = tirx.Ramp(number(0), number(1), lanes) if lanes > 1 else number(0)

        def update(r: tirx.Expr, s: tirx.Expr) -> tirx.Stmt:
            place = [n, row + r * windows.dilation[0], column + s * windows.dilation[1], c]
            given = windows.x.vload(place, vector_of(lanes))
            return tirx.BufferStore(best, tirx.Max(best.vload([number(0)], vector_of(lanes)), given), [at])

        zero = tirx.const(0, "uint8")
        start = tirx.BufferStore(best, tirx.Broadcast(zero, lanes) if lanes > 1 else zero, [at])
        some = loop_from("r", low_r, high_r, lambda r: loop_from("s", low_s, high_s, lambda s: update(r, s)))
        if prod(windows.kernel) <= UNROLLED:
            rows, columns = windows.kernel
            some = tirx.IfThenElse(whole, unrolled("r", rows, lambda r: unrolled("s", columns, lambda s: update(r, s))), some)
        end = tirx.Ramp(c, number(1), lanes) if lanes > 1 else c
        store = tirx.BufferStore(windows.y, best.vload([number(0)], vector_of(lanes)), [n, h, w, end])
        return holding([best], sequence(start, some, store))

    binds = [tirx.Bind(row, windows.start(0, h)), tirx.Bind(column, windows.start(1, w))]
    return sequence(*binds, *(tirx.Bind(*pair) for pair in zip(names, bounds, strict=True)), loop("tile", count, tile))


def loop_from(name: str, low: tirx.Expr, high: tirx.Expr, body: Body) -> tirx.Stmt:
    return loop_to(name, tirx.Max(high - low, number(0)), lambda index: body(index + low))


def vector_of(lanes: int) -> str:
    return f"uint8x{lanes}" if lanes > 1 else "uint8"
