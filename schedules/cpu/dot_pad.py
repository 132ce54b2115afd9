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


@dataclass(frozen=True)
class Border:
    """An image [n, h, w, c] of the extents `made` around another of `given`, `top` rows and `left` columns from the first."""

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


def read_border(block: s_tir.SBlock) -> Border | None:
    """What `block` puts around an image, channels last and all of them copied; None where it does something else."""
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
    if image or channel or made[0] != given[0] or made[3] != given[3] or min(top, left) < 0:
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
