"""Keep divisions that TVM's `FlattenBuffer` gets wrong from its sight.

    a[(x % 80 - 20) // 8, k]     ->     a[shield((x % 80 - 20) // 8), k]     ->     a_flat[(x % 80 - 20) // 8 * 24 + k]

While it makes one index of many, it rewrites this one to `(x + 4) % 80 // 8 - 3`, which differs where the remainder is 76 or more.
Remainders with an offset come from a concatenation between two reshapes. `shield_division` runs just before, `unshield_division` just
behind; the simplifiers that run later do not make that mistake.
"""

import tvm
import tvm_ffi
from tvm import tirx

NAME = "stack.shield"


def has_offset(expr: tirx.Expr) -> bool:
    """Whether a constant is among the terms of a sum."""
    if isinstance(expr, tirx.Add | tirx.Sub):
        return has_offset(expr.a) or has_offset(expr.b)
    return isinstance(expr, tirx.IntImm) and int(expr) != 0


def shield(division: tirx.FloorDiv | tirx.FloorMod) -> tirx.Expr:
    found: list[tirx.Expr] = []
    tvm_ffi.structural_walk(division.a, ((tirx.FloorDiv, tirx.FloorMod), found.append))
    return tirx.call_pure_extern(str(division.ty), NAME, division) if found and has_offset(division.a) else division


def unshield(call: tvm.ir.Call) -> tirx.Expr:
    shielded = getattr(call.op, "name", "") == "tirx.call_pure_extern" and call.args[0].value == NAME
    return call.args[1] if shielded else call


@tirx.transform.prim_func_pass(opt_level=0, name="shield_division")
def shield_division(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    return function.with_body(tvm_ffi.structural_map(function.body, ((tirx.FloorDiv, tirx.FloorMod), shield)))


@tirx.transform.prim_func_pass(opt_level=0, name="unshield_division")
def unshield_division(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    return function.with_body(tvm_ffi.structural_map(function.body, (tvm.ir.Call, unshield)))
