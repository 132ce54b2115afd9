"""The border around an image of bytes, row by row: long copies and fills in place of a condition for each pixel.

    for h, w, c: pad[h, w, c] = x[h - top, w - left, c] if inside else zero

->  for h in parallel:
      if h inside:  pad[h, 0 : left * C] = zero;  pad[h, left * C : (left + W) * C] = x[h - top, 0 : W * C];  pad[h, ...] = zero
      else:         pad[h, 0 : ...] = zero
"""

from math import prod

from tvm import s_tir, tirx
from tvm.ir import Call, TensorLoad
from tvm.sym import Analyzer

from schedules.cpu.dot_loops import const, loop, var, vector
from schedules.cpu.nest import PARALLEL_WORK
from schedules.machine import Machine


def pad_rows(block: s_tir.SBlock, machine: Machine) -> tirx.Stmt | None:
    """The loops of `block`, an image with its channels last and all of them copied; None where it is something else."""
    store = block.body
    if not isinstance(store, tirx.BufferStore) or not isinstance(store.value, Call) or store.value.op.name != "prim.if_then_else":
        return None
    _, pixel, zero = store.value.args
    axes = [axis.var for axis in block.iter_vars]
    plain = len(store.indices) == len(axes) == 4 and all(index.same_as(axis) for index, axis in zip(store.indices, axes, strict=True))
    if not plain or not isinstance(pixel, TensorLoad) or not isinstance(zero, tirx.IntImm) or str(zero.ty) not in ("uint8", "int8"):
        return None
    made, given = [int(e) for e in store.buffer.shape], [int(e) for e in pixel.source.shape]
    analyzer = Analyzer()
    shifts = [analyzer.simplify(axis - index) for axis, index in zip(axes, pixel.indices, strict=True)]
    if any(not isinstance(shift, tirx.IntImm) for shift in shifts):
        return None
    image, top, left, channel = (int(shift) for shift in shifts)
    if image or channel or made[0] != given[0] or made[3] != given[3] or min(top, left) < 0:
        return None
    if made[1] < top + given[1] or made[2] < left + given[2]:
        return None
    row = var("row")
    n, h = tirx.floordiv(row, const(made[1])), tirx.floormod(row, const(made[1]))
    kind = str(zero.ty)

    def run(start: int, length: int, source: bool) -> list[tirx.Stmt]:
        """Bytes `start` to `start` + `length` of the row."""
        width = machine.vector_bytes

        def element(at: tirx.Expr) -> tirx.Stmt:
            value = pixel.source.vload([n, h - top, const(0), at - left * made[3]], kind) if source else zero
            return tirx.BufferStore(store.buffer, value, [n, h, const(0), at])

        statements: list[tirx.Stmt] = []
        whole = length // width
        if whole:
            part, lane = var("part"), var("lane")
            statements.append(loop(part, whole, vector(lane, width, element(part * width + lane + start))))
        done = whole * width
        while done < length:
            lanes = 1 << ((length - done).bit_length() - 1)
            lane = var("lane")
            at = lane + (start + done)
            statements.append(vector(lane, lanes, element(at)) if lanes > 1 else element(const(start + done)))
            done += lanes
        return statements

    channels = made[3]
    end = (left + given[2]) * channels
    inside = [*run(0, left * channels, False), *run(left * channels, given[2] * channels, True), *run(end, made[2] * channels - end, False)]
    body: tirx.Stmt = sequence(inside)
    if made[1] != given[1]:
        within = tirx.And(h >= const(top), h < const(top + given[1]))
        body = tirx.IfThenElse(within, body, sequence(run(0, made[2] * channels, False)))
    parallel = machine.cores > 1 and prod(made) >= PARALLEL_WORK * 4  # bytes, most of them copied 64 at a time
    return loop(row, made[0] * made[1], body, tirx.ForKind.PARALLEL if parallel else tirx.ForKind.SERIAL)


def sequence(statements: list[tirx.Stmt]) -> tirx.Stmt:
    return tirx.SeqStmt(statements) if len(statements) > 1 else statements[0]
