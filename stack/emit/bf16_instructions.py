"""The CPU's own arithmetic in bfloat16, as functions that schedules call by name (schedules/cpu/bf16.py).

    stack_bf16_dot(sums, x, w)       VDPBF16PS: to each of 16 sums, two products of the bfloat16 pairs in `x` and `w`
    stack_bf16_round(low, high)      VCVTNE2PS2BF16: these 32 numbers one behind the other, as 16 pairs in int32

TVM's code generator has no type for vectors of bfloat16, so these few lines are LLVM's own text. A program that calls one imports them,
and LLVM puts the instruction in the place of the call.
"""

import tvm
from tvm import tirx

from stack.emit.calls import calls

FUNCTIONS = """
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)
declare <32 x bfloat> @llvm.x86.avx512bf16.cvtne2ps2bf16.512(<16 x float>, <16 x float>)

define linkonce_odr hidden <16 x float> @stack_bf16_dot(<16 x float> %sums, <16 x i32> %x, <16 x i32> %w) #0 {
  %left = bitcast <16 x i32> %x to <32 x bfloat>
  %right = bitcast <16 x i32> %w to <32 x bfloat>
  %result = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float> %sums, <32 x bfloat> %left, <32 x bfloat> %right)
  ret <16 x float> %result
}

define linkonce_odr hidden <16 x i32> @stack_bf16_round(<16 x float> %low, <16 x float> %high) #0 {
  %pairs = call <32 x bfloat> @llvm.x86.avx512bf16.cvtne2ps2bf16.512(<16 x float> %high, <16 x float> %low)
  %result = bitcast <32 x bfloat> %pairs to <16 x i32>
  ret <16 x i32> %result
}

attributes #0 = { alwaysinline nounwind memory(none) }
"""


@tirx.transform.prim_func_pass(opt_level=0, name="bf16_instructions")
def bf16_instructions(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    """Import the functions where one is called."""
    if not any(name.startswith("stack_bf16_") for name in calls(function)):
        return function
    return function.with_body(tirx.AttrStmt("default", "pragma_import_llvm", tvm.ir.StringImm(FUNCTIONS), function.body))
