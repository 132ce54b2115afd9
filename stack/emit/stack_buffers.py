"""Keep a kernel's small buffers on the stack, where LLVM turns accumulators into registers.

    acc = alloc_buffer((16,), "float32x16", scope="local")     ->     the same, annotated so that `LowerTVMBuiltin` leaves it a stack slot

By itself that pass makes a call of the workspace allocator of everything in scope `local`, and of whatever else takes a kilobyte or more:
for each tile.
"""

import tvm
import tvm_ffi
from tvm import tirx

LIMIT = 16 << 10  # bytes a buffer; the rows of a softmax over a thousand classes are four kilobytes
KEEP = "disable_lower_builtin"


def keep(alloc: tirx.AllocBuffer) -> tirx.AllocBuffer:
    buffer = alloc.buffer
    size = tvm.DataType(str(buffer.dtype)).itemsize
    for extent in buffer.shape:
        if not isinstance(extent, tirx.IntImm):
            return alloc
        size *= int(extent)
    if size > LIMIT:
        return alloc
    return tirx.AllocBuffer(buffer, {**dict(alloc.annotations), KEEP: tirx.IntImm("bool", 1)})


@tirx.transform.prim_func_pass(opt_level=0, name="stack_buffers")
def stack_buffers(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.AllocBuffer, keep)))
