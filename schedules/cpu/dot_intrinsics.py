"""Four products of unsigned by signed bytes, added to each lane of a vector of int32: one instruction with VNNI, exact without it.

    acc[lane] += x[0] * w[lane, 0] + x[1] * w[lane, 1] + x[2] * w[lane, 2] + x[3] * w[lane, 3]

`x` may be the same four bytes for all lanes (a dense product) or four for each (a depthwise one). Without VNNI the even bytes and the odd
bytes are widened to 16 bits where they lie, and VPMADDWD multiplies them and adds neighbours, in 32 bits: VPMADDUBSW would saturate.
Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
"""

from tvm import tirx

from schedules.machine import Machine


def dot(acc: tirx.Expr, x: tirx.Expr, w: tirx.Expr, machine: Machine) -> tirx.Expr:
    """`acc` (int32, one vector of the machine) plus the products of `x` and `w`, both of as many int32, each four bytes."""
    lanes = machine.lanes()
    if machine.int8_dot:
        name = f"llvm.x86.avx512.vpdpbusd.{lanes * 32}"
        kind = f"int8x{lanes * 4}"
        return tirx.call_llvm_pure_intrin(f"int32x{lanes}", name, acc, tirx.reinterpret(kind, x), tirx.reinterpret(kind, w))
    even = multiply_pairs(low_bytes(x, lanes), tirx.reinterpret(f"int16x{lanes * 2}", widen_even(w, lanes)), lanes)
    odd = multiply_pairs(low_bytes(x >> tirx.const(8, f"int32x{lanes}"), lanes), widen_odd(w, lanes), lanes)
    return acc + even + odd


def multiply_pairs(x: tirx.Expr, w: tirx.Expr, lanes: int) -> tirx.Expr:
    """x[2i] * w[2i] + x[2i + 1] * w[2i + 1] for vectors of int16."""
    name = "llvm.x86.avx512.pmaddw.d.512" if lanes == 16 else "llvm.x86.avx2.pmadd.wd"
    return tirx.call_llvm_pure_intrin(f"int32x{lanes}", name, x, w)


def low_bytes(x: tirx.Expr, lanes: int) -> tirx.Expr:
    """The lower byte of each 16 bits, as unsigned."""
    return tirx.reinterpret(f"int16x{lanes * 2}", x & tirx.const(0x00FF00FF, f"int32x{lanes}"))


def widen_even(w: tirx.Expr, lanes: int) -> tirx.Expr:
    """The lower byte of each 16 bits, as signed."""
    pairs, eight = tirx.reinterpret(f"int16x{lanes * 2}", w), tirx.const(8, f"int16x{lanes * 2}")
    return (pairs << eight) >> eight


def widen_odd(w: tirx.Expr, lanes: int) -> tirx.Expr:
    """The upper byte of each 16 bits, as signed."""
    return tirx.reinterpret(f"int16x{lanes * 2}", w) >> tirx.const(8, f"int16x{lanes * 2}")
