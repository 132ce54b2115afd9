"""Requantisation in Helium, of four outputs at a time: `by_scalars` where they are of one filter, `by_vectors` where they are of four.

VQRDMULH is TFLite Micro's doubling high multiplication. VRSHL rounds halves up, where TFLite Micro rounds them away from zero. That
differs below zero only, and is put right beforehand; but where `low` is at least `y_zero`, what is below zero is clipped anyway.
"""

import numpy as np

from schedules.integer import Convolution
from schedules.space import Array


def rounds_from_zero(op: Convolution) -> bool:
    return op.low < op.y_zero


def columns(op: Convolution, bias: Array, multiplier: Array, shift: Array) -> list[Array]:
    """What one output's requantisation needs, in the order it is used."""
    left = [] if op.right_shifts else [np.maximum(shift, 0)]
    return [bias, *left, multiplier, np.minimum(shift, 0)]


def scalars(op: Convolution, bias: Array, multiplier: Array, shift: Array) -> Array:
    """int8 [filters, 4 * count]: for vectors of outputs of one filter."""
    found = columns(op, bias, multiplier, shift)
    return np.ascontiguousarray(np.stack([column.astype("<i4") for column in found], axis=1)).view(np.int8)


def names(op: Convolution) -> list[str]:
    return ["bias", *([] if op.right_shifts else ["left"]), "multiplier", "right"]


def count(op: Convolution) -> int:
    """Numbers of one filter."""
    return len(names(op))


SCALARS = ("r1", "r3", "r5", "r8")  # where the numbers of one filter are, in their order
ZERO = "r9"  # where y_zero is


def by_scalars(op: Convolution, acc: str, spare: str) -> list[str]:
    """Assembly: outputs of one filter, without `y_zero`. Rounding from zero overwrites r0 and the vector `spare`."""
    number = dict(zip(names(op), SCALARS, strict=False))
    lines = [f"vadd.i32 {acc}, {acc}, {number['bias']}"]
    if not op.right_shifts:
        lines.append(f"vshl.s32 {acc}, {number['left']}")
    lines.append(f"vqrdmulh.s32 {acc}, {acc}, {number['multiplier']}")
    if rounds_from_zero(op):
        lines += [f"vshr.s32 {spare}, {acc}, #31", f"lsr r0, {number['right']}, #31", f"vmla.s32 {acc}, {spare}, r0"]
    return [*lines, f"vrshl.s32 {acc}, {number['right']}"]


def prepare(op: Convolution) -> list[str]:
    """Assembly before the filters."""
    return [f"mov {ZERO}, #{op.y_zero}"] if op.y_zero else []


def clip(op: Convolution, registers: list[str], zero: str, spare: str) -> list[str]:
    """Assembly: outputs saturated to 16 bits, without `y_zero`, into the low bytes of their lanes. r0 and `spare` are overwritten.

    `zero` is ZERO where `prepare` came before, otherwise r0.
    """
    lines = [f"mov r0, #{op.y_zero}"] if op.y_zero and zero == "r0" else []
    lines += [f"vqadd.s16 {h}, {h}, {zero}" for h in registers] if op.y_zero else []
    for name, bound, used in (("vmax", op.low, op.low > -128), ("vmin", op.high, op.high < 127)):
        if used:
            lines += [f"mov r0, #{bound}", f"vdup.16 {spare}, r0", *(f"{name}.s16 {h}, {h}, {spare}" for h in registers)]
    return lines if op.low > -128 and op.high < 127 else [*lines, *(f"vqmovnb.s16 {h}, {h}" for h in registers)]


def vectors(op: Convolution, bias: Array, multiplier: Array, shift: Array) -> Array:
    """int8 [filters / 4, bytes]: what `by_vectors` reads for each four filters."""
    found = np.stack([column.astype("<i4").reshape(-1, 4) for column in columns(op, bias, multiplier, shift)], axis=1)
    return np.ascontiguousarray(found).reshape(len(found), -1).view(np.int8)


def by_vectors(op: Convolution, registers: list[str]) -> list[str]:
    """Assembly: outputs of the same four filters, whose numbers are read from %[w], without `y_zero`. q6 and q7 are overwritten."""
    load = "vldrb.8 q6, [%[w]], #16"
    lines = [load, *(f"vadd.i32 {q}, {q}, q6" for q in registers)]
    if not op.right_shifts:
        lines += [load, *(f"vshl.s32 {q}, {q}, q6" for q in registers)]
    lines += [load, *(f"vqrdmulh.s32 {q}, {q}, q6" for q in registers), load]
    for q in registers:
        if rounds_from_zero(op):
            lines += [f"vand q7, {q}, q6", "vshr.s32 q7, q7, #31", f"vqadd.s32 {q}, {q}, q7"]
        lines += [f"vrshl.s32 {q}, {q}, q6"]
    return lines
