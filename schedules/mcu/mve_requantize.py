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
    found = columns(op, bias, multiplier, shift) + ([(shift < 0).astype(np.int32)] if rounds_from_zero(op) else [])
    return np.ascontiguousarray(np.stack([column.astype("<i4") for column in found], axis=1)).view(np.int8)


NAMES = ("bias", "left", "multiplier", "right", "rounds")


def names(op: Convolution) -> list[str]:
    unused = {name for name, used in (("left", not op.right_shifts), ("rounds", rounds_from_zero(op))) if not used}
    return [name for name in NAMES if name not in unused]


def count(op: Convolution) -> int:
    """Numbers of one filter."""
    return len(names(op))


def load_scalars(op: Convolution, at: str) -> list[str]:
    """C: the numbers of one filter, stored at `at`."""
    return [f"const int32_t {name} = stack_load4({at} + {4 * place});" for place, name in enumerate(names(op))]


def by_scalars(op: Convolution, acc: str) -> list[str]:
    """C: the int32x4_t `acc`, outputs of one filter, into int8 values."""
    lines = [f"{acc} = vaddq_n_s32({acc}, bias);"]
    if not op.right_shifts:
        lines.append(f"{acc} = vshlq_r_s32({acc}, left);")
    lines.append(f"{acc} = vqrdmulhq_n_s32({acc}, multiplier);")
    if rounds_from_zero(op):
        lines.append(f"{acc} = vmlaq_n_s32({acc}, vshrq_n_s32({acc}, 31), rounds);")
    lines.append(f"{acc} = vrshlq_n_s32({acc}, right);")
    if op.y_zero:
        lines.append(f"{acc} = vaddq_n_s32({acc}, {op.y_zero});")
    return [*lines, f"{acc} = vminq_s32(vmaxq_s32({acc}, vdupq_n_s32({op.low})), vdupq_n_s32({op.high}));"]


def vectors(op: Convolution, bias: Array, multiplier: Array, shift: Array) -> Array:
    """int8 [filters / 4, bytes]: what `by_vectors` reads for each four filters."""
    found = np.stack([column.astype("<i4").reshape(-1, 4) for column in columns(op, bias, multiplier, shift)], axis=1)
    return np.ascontiguousarray(found).reshape(len(found), -1).view(np.int8)


def by_vectors(op: Convolution, registers: list[str]) -> list[str]:
    """Assembly: outputs of the same four filters, whose numbers are read from %[w], without `y_zero`. q0 and q1 are overwritten."""
    load = "vldrb.8 q0, [%[w]], #16"
    lines = [load, *(f"vadd.i32 {q}, {q}, q0" for q in registers)]
    if not op.right_shifts:
        lines += [load, *(f"vshl.s32 {q}, {q}, q0" for q in registers)]
    lines += [load, *(f"vqrdmulh.s32 {q}, {q}, q0" for q in registers), load]
    for q in registers:
        if rounds_from_zero(op):
            lines += [f"vand q1, {q}, q0", "vshr.s32 q1, q1, #31", f"vqadd.s32 {q}, {q}, q1"]
        lines += [f"vrshl.s32 {q}, {q}, q0"]
    return lines


def clip_halves(op: Convolution, h: str) -> list[str]:
    """C: the int16x8_t `h`, saturated outputs without `y_zero`, into int8 values in the low bytes of its lanes."""
    if (op.y_zero, op.low, op.high) == (-128, -128, 127):  # saturation to unsigned bytes is the clip
        return [f"{h} = vreinterpretq_s16_u8(vqmovunbq_s16(vreinterpretq_u8_s16({h}), {h}));", f"{h} = vaddq_n_s16({h}, -128);"]
    lines = [f"{h} = vqaddq_n_s16({h}, {op.y_zero});"] if op.y_zero else []
    return [*lines, f"{h} = vminq_s16(vmaxq_s16({h}, vdupq_n_s16({op.low})), vdupq_n_s16({op.high}));"]
