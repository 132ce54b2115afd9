"""Real numbers to bytes at the end of an integer layer, in six instructions a vector: two saturating packs in place of clips and casts.

    uint8(round(clip(v, 0 - z, 255 - z)) + z)     ->     q = lrint(min(v, 255 - z))                        VCVTPS2DQ, ties to even
                                                         packus(packs(q0, q1) + z, packs(q2, q3) + z)      saturating, then put in order

The upper bound stays a minimum: VCVTPS2DQ makes the least integer of everything that int32 does not hold, which saturates rightly only
where it is negative. Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import tvm_ffi
from tvm import tirx
from tvm.ir import Call

BOUNDS = {"uint8": (0, 255), "int8": (-128, 127)}


@dataclass(frozen=True)
class Requantize:
    """`value` rounded, moved by `zero` (None for 0), and cut to what `dtype` holds."""

    value: tirx.Expr
    high: tirx.Expr
    zero: tirx.Expr | None
    dtype: str

    def whole(self) -> tirx.Expr:
        """The rounded int32, saturated at the upper end only."""
        return tirx.call_llvm_pure_intrin("int32", "llvm.lrint", tirx.Min(self.value, self.high))

    def packed(self, vectors: Sequence[tirx.Expr], lanes: int) -> tirx.Expr:
        """One, two or four vectors of such integers as bytes."""
        first = [vectors[0], vectors[min(1, len(vectors) - 1)]]
        last = [vectors[-2], vectors[-1]] if len(vectors) == 4 else first
        family = "avx512" if lanes == 16 else "avx2"
        suffix = ".512" if lanes == 16 else ""
        words = [tirx.call_llvm_pure_intrin(f"int16x{2 * lanes}", f"llvm.x86.{family}.packssdw{suffix}", *pair) for pair in (first, last)]
        if self.zero is not None:
            moved = tirx.Broadcast(tirx.Cast("int16", self.zero), 2 * lanes)
            words = [tirx.call_llvm_pure_intrin(f"int16x{2 * lanes}", "llvm.sadd.sat", word, moved) for word in words]
        narrow = "packuswb" if self.dtype == "uint8" else "packsswb"
        found = tirx.call_llvm_pure_intrin(f"int8x{4 * lanes}", f"llvm.x86.{family}.{narrow}{suffix}", *words)
        parts = lanes // 4  # of 128 bits, which a pack treats each by itself
        order = [tirx.const(4 * part + vector, "int32") for vector in range(len(vectors)) for part in range(parts)]
        in_order = tirx.Shuffle([tirx.reinterpret(f"int32x{lanes}", found)], order)
        return tirx.reinterpret(f"{self.dtype}x{lanes * len(vectors)}", in_order)


def read_requantize(expr: tirx.Expr) -> Requantize | None:
    """What `expr` does at last, None where that is something else."""
    if not isinstance(expr, tirx.Cast) or str(expr.ty) not in BOUNDS:
        return None
    return read_magic(expr.value, str(expr.ty)) or read_round(expr.value, str(expr.ty))


def read_magic(whole: tirx.Expr, dtype: str) -> Requantize | None:
    """reinterpret(clip(value, low, high) + 1.5 * 2^23) + zero"""
    zero = None
    if isinstance(whole, tirx.Add):
        whole, zero = whole.a, whole.b
    if not is_call(whole, "tirx.reinterpret") or str(whole.ty) != "int32":
        return None
    total = whole.args[0]
    if not isinstance(total, tirx.Add) or real(total.b) != 1.5 * 2**23:
        return None
    clipped = read_clip(total.a)
    if clipped is None:
        return None
    value, low, high = clipped
    least, most = BOUNDS[dtype]
    if not is_bound(low, least, zero) or not is_bound(high, most, zero):
        return None
    return Requantize(value, high, zero, dtype)


def read_round(value: tirx.Expr, dtype: str) -> Requantize | None:
    """clip(round(value) + zero, least, most)"""
    clipped = read_clip(value)
    if clipped is None:
        return None
    inner, low, high = clipped
    zero = 0.0
    if isinstance(inner, tirx.Add):
        shift = real(inner.b)
        if shift is None or not shift.is_integer():
            return None
        inner, zero = inner.a, shift
    if not is_call(inner, "tirx.round") or (real(low), real(high)) != BOUNDS[dtype] or not BOUNDS["int8"][0] <= zero <= BOUNDS["uint8"][1]:
        return None
    return Requantize(
        inner.args[0], tirx.const(BOUNDS[dtype][1] - zero, "float32"), tirx.const(int(zero), "int32") if zero else None, dtype
    )


def is_call(expr: tirx.Expr, name: str) -> bool:
    return isinstance(expr, Call) and getattr(expr.op, "name", "") == name


def read_clip(expr: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr, tirx.Expr] | None:
    """(value, low, high) of min(max(value, low), high) or max(min(value, high), low)."""
    if isinstance(expr, tirx.Min) and isinstance(expr.a, tirx.Max):
        return expr.a.a, expr.a.b, expr.b
    if isinstance(expr, tirx.Max) and isinstance(expr.a, tirx.Min):
        return expr.a.a, expr.b, expr.a.b
    return None


def real(expr: tirx.Expr) -> float | None:
    return float(expr.value) if isinstance(expr, tirx.FloatImm | tirx.IntImm) else None


def is_bound(bound: tirx.Expr, limit: int, zero: tirx.Expr | None) -> bool:
    """Whether `bound` is `limit` - `zero` in float32."""
    if zero is None:
        return real(bound) == limit
    if real(zero) is not None:
        return real(bound) == limit - int(real(zero) or 0)
    if not isinstance(bound, tirx.Sub) or real(bound.a) != limit or not isinstance(bound.b, tirx.Cast):
        return False
    return bool(tvm_ffi.structural_equal(bound.b.value, zero))
