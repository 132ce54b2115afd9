"""The border around an image of bytes, row by row: long copies and fills in place of a condition for each pixel.

    for h, w, c: pad[h, w, c] = x[h - top, w - left, c] if inside else zero

->  for h in parallel:
      if h inside:  pad[h, 0 : left * C] = zero;  pad[h, left * C : (left + W) * C] = x[h - top, 0 : W * C];  pad[h, ...] = zero
      else:         pad[h, 0 : ...] = zero
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tvm import s_tir, tirx
from tvm.ir import Call, TensorLoad
from tvm.sym import Analyzer

from schedules.cpu.dot_loops import const, loop, var, vector
from schedules.cpu.nest import PARALLEL_WORK
from schedules.machine import Machine

QUAD = 4  # bytes that a dot product takes from a pixel
PIXELS = 16  # that are widened at once


@dataclass(frozen=True)
class Border:
    """An image [n, h, w, c] of the extents `made` around another of `given`, `top` rows and `left` columns from the first.

    Pixels have as many channels as those of the image, or four, the last of them `zero`."""

    image: tirx.Buffer
    padded: tirx.Buffer
    zero: tirx.IntImm
    top: int
    left: int

    @property
    def given(self) -> list[int]:
        return [int(extent) for extent in self.image.shape]

    @property
    def made(self) -> list[int]:
        return [int(extent) for extent in self.padded.shape]

    def row(self, target: tirx.Buffer, lead: Sequence[tirx.Expr], n: tirx.Expr, h: tirx.Expr, width: int) -> tirx.Stmt:
        """Row `h` of padded image `n`, `width` bytes at a time, to target[*lead]."""
        _, height, columns, channels = self.given
        if channels != self.made[3]:
            return self.quad_row(target, lead, n, h)
        total, start, end = self.made[2] * channels, self.left * channels, (self.left + columns) * channels

        def run(first: int, length: int, source: bool) -> list[tirx.Stmt]:
            def element(at: tirx.Expr) -> tirx.Stmt:
                value = self.image.vload([n, h - self.top, const(0), at - start], str(self.zero.ty)) if source else self.zero
                # in bounds of each axis, from which a pass computes how much of the buffer there has to be
                return tirx.BufferStore(target, value, [*lead, tirx.floordiv(at, const(channels)), tirx.floormod(at, const(channels))])

            statements: list[tirx.Stmt] = []
            done = length // width * width
            if done:
                part, lane = var("part"), var("lane")
                statements.append(loop(part, length // width, vector(lane, width, element(part * width + lane + first))))
            while done < length:
                lanes, lane = 1 << ((length - done).bit_length() - 1), var("lane")
                statements.append(vector(lane, lanes, element(lane + (first + done))) if lanes > 1 else element(const(first + done)))
                done += lanes
            return statements

        inside = sequence([*run(0, start, False), *run(start, end - start, True), *run(end, total - end, False)])
        if self.made[1] == height:
            return inside
        within = tirx.And(h >= const(self.top), h < const(self.top + height))
        return tirx.IfThenElse(within, inside, sequence(run(0, total, False)))

    def quad_row(self, target: tirx.Buffer, lead: Sequence[tirx.Expr], n: tirx.Expr, h: tirx.Expr) -> tirx.Stmt:
        """The same where pixels of less than four bytes become pixels of four, sixteen at a time."""
        _, height, columns, channels = self.given
        order = [tirx.const(pixel * channels + min(byte, channels - 1), "int32") for pixel in range(PIXELS) for byte in range(QUAD)]
        zero = int(self.zero.value)
        mask = tirx.const((1 << 8 * channels) - 1, "uint32")
        filler = tirx.const(sum(zero << 8 * byte for byte in range(channels, QUAD)), "uint32")

        def store(first: tirx.Expr, value: tirx.Expr, pixels: int) -> tirx.Stmt:
            at = tirx.Ramp(tirx.const(0, "int64"), const(1), pixels * QUAD)
            return tirx.BufferStore(target, tirx.reinterpret(f"uint8x{pixels * QUAD}", value), [*lead, first, at])

        def inside(first: tirx.Expr) -> tirx.Stmt:
            given = self.image.vload([n, h - self.top, first, const(0)], f"uint8x{PIXELS * channels}")
            spread = tirx.reinterpret(f"uint32x{PIXELS}", tirx.Shuffle([given] * QUAD, order))  # it wants no fewer lanes than it makes
            return store(first + self.left, (spread & tirx.Broadcast(mask, PIXELS)) | tirx.Broadcast(filler, PIXELS), PIXELS)

        def outside(first: int, last: int) -> list[tirx.Stmt]:
            every = tirx.Broadcast(tirx.const(zero, "uint8"), QUAD)
            pixel = var("pixel")
            return [loop(pixel, last - first, store(pixel + first, every, 1))] if last > first else []

        part = var("part")
        whole = [loop(part, columns // PIXELS, inside(part * PIXELS))]
        rest = [inside(const(columns - PIXELS))] if columns % PIXELS else []  # over some that are there already
        made = self.made[2]
        body = sequence([*outside(0, self.left), *whole, *rest, *outside(self.left + columns, made)])
        if self.made[1] == height:
            return body
        within = tirx.And(h >= const(self.top), h < const(self.top + height))
        return tirx.IfThenElse(within, body, sequence(outside(0, made)))


def read_border(block: s_tir.SBlock) -> Border | None:
    """What `block` puts around an image, all its channels or a pixel made four bytes; None for anything else."""
    store = block.body
    if not isinstance(store, tirx.BufferStore) or not isinstance(store.value, Call) or store.value.op.name != "prim.if_then_else":
        return None
    _, pixel, zero = store.value.args
    axes = [axis.var for axis in block.iter_vars]
    plain = len(store.indices) == len(axes) == 4 and all(index.same_as(axis) for index, axis in zip(store.indices, axes, strict=True))
    if not plain or not isinstance(pixel, TensorLoad) or not isinstance(zero, tirx.IntImm) or str(zero.ty) not in ("uint8", "int8"):
        return None
    analyzer = Analyzer()
    shifts = [analyzer.simplify(axis - index) for axis, index in zip(axes, pixel.indices, strict=True)]
    if any(not isinstance(shift, tirx.IntImm) for shift in shifts):
        return None
    image, top, left, channel = (int(shift) for shift in shifts)
    border = Border(pixel.source, store.buffer, zero, top, left)
    made, given = border.made, border.given
    wider = made[3] == QUAD > given[3] and given[2] >= PIXELS and str(zero.ty) == "uint8"
    if image or channel or made[0] != given[0] or (made[3] != given[3] and not wider) or min(top, left) < 0:
        return None
    return border if made[1] >= top + given[1] and made[2] >= left + given[2] else None


def pad_rows(border: Border, machine: Machine) -> tirx.Stmt:
    """All rows of the padded images."""
    made, row = border.made, var("row")
    n, h = tirx.floordiv(row, const(made[1])), tirx.floormod(row, const(made[1]))
    body = border.row(border.padded, [n, h], n, h, machine.vector_bytes)
    parallel = machine.cores > 1 and prod(made) >= PARALLEL_WORK * 4  # bytes, most of them copied 64 at a time
    return loop(row, made[0] * made[1], body, tirx.ForKind.PARALLEL if parallel else tirx.ForKind.SERIAL)


def sequence(statements: list[tirx.Stmt]) -> tirx.Stmt:
    return tirx.SeqStmt(statements) if len(statements) > 1 else statements[0]
