"""Scheduled TensorIR programs -> object files of plain C functions.

    @T.prim_func                                         int32_t fused_conv2d_relu(float *data, float *weight, float *out)
    def fused_conv2d_relu(data: T.Buffer(...), ...)  ->

TVM wraps a function into its packed calling convention; we keep the pointers instead, so that C can call a kernel like any function.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tvm
from tvm import s_tir, tirx
from tvm.ir import PointerType, PrimType
from tvm_ffi import structural_walk

from stack.emit.bf16_instructions import bf16_instructions
from stack.emit.calls import note_calls
from stack.emit.hoist_conditions import hoist_conditions
from stack.emit.nested_math import nested_math
from stack.emit.parallel_units import parallel_units
from stack.emit.shield_division import shield_division, unshield_division
from stack.emit.stack_buffers import stack_buffers
from stack.emit.vector_math import expand_vector_math, name_vector_math
from stack.emit.vector_tails import vector_tails
from targets.target import Target

GROUP = 4  # programs that LLVM is started for at once: a third less time than one by one; more would leave a core idle at the end


@tirx.transform.prim_func_pass(opt_level=0, name="plain_pointers")
def plain_pointers(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    """Buffer parameters become pointers, parallel loops have equal parts, and the function returns 0.

    All at once: to make a function anew, TVM looks at everything in it, which here is all that was unrolled.
    """
    pointers = [tirx.Var(buffer.name, PointerType(buffer.ty.dtype)) for buffer in function.params]
    views = [tirx.DeclBuffer(buffer, data=pointer) for buffer, pointer in zip(function.params, pointers, strict=True)]
    zero, cpu = tirx.const(0, "int32"), tirx.const(1, "int32")
    body = tirx.AttrStmt("default", "device_type", cpu, tirx.SeqStmt([*views, parallel_units(function.body)]))
    body = tirx.SeqStmt([tirx.AttrStmt("default", "device_id", zero, body), tirx.Return(zero)])
    return tirx.PrimFunc(pointers, body, PrimType("int32"), function.attrs)


@tirx.transform.prim_func_pass(opt_level=0, name="compact_buffers")
def compact_buffers(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    """TVM's CompactBufferAllocation for what schedule primitives left. A rule that writes its loops out, without a block inside the root,
    allocates just what it needs, and the analysis of Winograd's many indices takes longer than LLVM does."""
    blocks: list[s_tir.SBlock] = []
    structural_walk(function.body, (s_tir.SBlock, blocks.append))
    if len(blocks) <= 1:
        return function
    return s_tir.transform.CompactBufferAllocation()(tvm.IRModule({"main": function}))["main"]


@tirx.transform.prim_func_pass(opt_level=0, name="narrow_indices")
def narrow_indices(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    """TVM's NarrowDataType for programs over bytes alone. As 32 bits an index has to be extended wherever it is one: LLVM takes a fifth
    longer, and the kernels of float32 are slower by up to a third; those of bytes, with several addresses for one instruction, are quicker
    by up to a third."""
    if not any(parameter.dtype in ("int8", "uint8") for parameter in function.params):
        return function
    return tirx.transform.NarrowDataType(32)(tvm.IRModule({"main": function}))["main"]


def lowering() -> tvm.transform.Sequential:
    """TensorIR blocks -> flat loops over pointers, in the order of TVM's own CPU pipeline less what only GPUs need."""
    s, t = s_tir.transform, tirx.transform
    return tvm.transform.Sequential(
        [
            s.CanonicalizeLoop(),
            s.LowerInitBlock(),
            s.PlanAndUpdateBufferAllocationLocation(),
            s.ConvertBlocksToOpaque(),
            compact_buffers,
            s.LowerMatchBuffer(),
            s.StmtSimplify(),
            s.LowerOpaqueBlock(),
            shield_division,
            t.FlattenBuffer(),
            unshield_division,
            t.BF16ComputeLegalize(),
            narrow_indices,
            s.LoopPartition(),
            vector_tails,
            t.StmtSimplify(),  # decides the conditions that are now constant
            t.VectorizeLoop(True),
            t.StorageRewrite(),
            stack_buffers,
            note_calls,
            hoist_conditions,
            t.UnrollLoop(),
            t.StmtSimplify(),
            s.RewriteUnsafeSelect(),
            name_vector_math,
            nested_math,
            plain_pointers,
            t.LowerTVMBuiltin(),
            t.LowerIntrin(),
            t.BF16StorageLegalize(),
            bf16_instructions,
            expand_vector_math,
        ]
    )


def build_together(programs: Sequence[tirx.PrimFunc], target: tvm.target.Target, file: Path) -> None:
    """Compile programs into one object file; each has its name in the attribute `global_symbol`."""
    module = tvm.IRModule({str(program.attrs["global_symbol"]): program for program in programs})
    module = tirx.transform.BindTarget(target)(module)
    with target:
        module = lowering()(module)
        tvm.get_global_func("target.build.llvm")(module, target).write_to_file(str(file), "o")


def build_objects(
    programs: Sequence[tirx.PrimFunc],
    target: Target,
    folder: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """One object for each few programs, in order; both cores work, and the order of the result does not depend on them."""
    codegen = tvm.target.Target(dict(target.codegen))
    groups = [programs[first : first + GROUP] for first in range(0, len(programs), GROUP)]
    files = [folder / f"{index}.o" for index in range(len(groups))]  # not by name: those of large fused programs are too long for a file
    done = 0

    def build(job: tuple[Sequence[tirx.PrimFunc], Path]) -> None:
        nonlocal done
        build_together(job[0], codegen, job[1])
        done += len(job[0])
        if on_progress:
            on_progress(done, len(programs))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(build, zip(groups, files, strict=True)))
    return files
