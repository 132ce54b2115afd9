"""What a program calls, as an attribute of it: found ahead of unrolling, behind which there is several times as much to look at.

y[i] = exp(x[i])     ->     the same, and calls(function) == {"exp"}
"""

import tvm
import tvm_ffi
from tvm import tirx

ATTRIBUTE = "stack.calls"


def name_of(call: tvm.ir.Call) -> str:
    """Of one of TIR's own functions, or of an external one."""
    name: str = getattr(call.op, "name", "").removeprefix("tirx.")
    return call.args[0].value if name == "call_pure_extern" else name


def found(function: tirx.PrimFunc) -> set[str]:
    names: set[str] = set()
    tvm_ffi.structural_walk(function.body, (tvm.ir.Call, lambda call: names.add(name_of(call))))
    return names


@tirx.transform.prim_func_pass(opt_level=0, name="note_calls")
def note_calls(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    return function.with_attr(ATTRIBUTE, sorted(found(function)))


def calls(function: tirx.PrimFunc) -> set[str]:
    """What `note_calls` noted; where it did not run, what is there."""
    noted = (function.attrs or {}).get(ATTRIBUTE)
    return found(function) if noted is None else set(map(str, noted))
