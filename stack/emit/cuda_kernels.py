"""Scheduled TensorIR programs -> CUDA source of all their kernels, and how each program launches its own.

    @T.prim_func                                     extern "C" __global__ void softmax_kernel(float *out, float *x) { ... }
    def softmax(x: T.Buffer(...), out: ...)    ->
                                                     Launch("softmax_kernel", grid=(12, 1, 1), block=(256, 1, 1),
                                                            arguments=(Place("parameter", 1), Place("parameter", 0)))

TVM splits each program into kernels and a host function that launches them through its own runtime. We read the launches from that
function and drop it, so that a table in C can make them. A program of several kernels may pass values between them in scratch memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tvm
from tvm import s_tir, tirx

from stack.emit.program import Place
from stack.emit.shield_division import shield_division, unshield_division
from targets.target import Target

ALIGN = 256  # what cuMemAlloc gives, so that an offset is as good as an allocation of its own
AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Launch:
    """One kernel launch. An argument is a `parameter` of the program, by position, or `scratch`, by byte offset."""

    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_bytes: int  # dynamic shared memory, beyond what the kernel declares
    arguments: tuple[Place, ...]


@dataclass(frozen=True)
class Kernels:
    """All kernels of a model: their CUDA source, each program's launches in order, and the scratch bytes that the hungriest needs."""

    source: str
    launches: dict[str, tuple[Launch, ...]]
    scratch_bytes: int


def lowering() -> tvm.transform.Sequential:
    """TensorIR blocks bound to threads -> host and device functions, in the order of TVM's own GPU pipeline up to the split."""
    s, t = s_tir.transform, tirx.transform
    return tvm.transform.Sequential(
        [
            s.CanonicalizeLoop(),
            s.LowerCrossThreadReduction(),
            s.LowerInitBlock(),
            s.PlanAndUpdateBufferAllocationLocation(),
            s.ConvertBlocksToOpaque(),
            s.LiftThreadBinding(),
            s.ManifestSharedMemoryLocalStage(),
            s.CompactBufferAllocation(),
            s.LowerAutoCopy(),
            s.UnifyThreadBinding(),
            s.LowerMatchBuffer(),
            s.StmtSimplify(),
            s.InjectPermutedLayout(),
            s.AnnotateIrregularLoop(),
            s.InjectSoftwarePipeline(),
            s.TransformMmaBufferLayout(),
            s.LowerOpaqueBlock(),
            shield_division,
            t.FlattenBuffer(),
            unshield_division,
            t.BF16ComputeLegalize(),
            t.NarrowDataType(32),
            s.LoopPartition(),
            t.VectorizeLoop(True),
            s.InjectVirtualThread(),
            s.InjectDoubleBuffer(),
            t.StorageRewrite(),
            s.HoistIfThenElse(),
            t.UnrollLoop(),
            s.RenormalizeSplitPattern(),
            t.StmtSimplify(),
            t.RemoveNoOp(),
            s.RewriteUnsafeSelect(),
            t.CommonSubexprElim(),
            t.VerifyMemory(),
            t.AnnotateEntryFunc(),
            s.ThreadSync("shared"),
            s.ThreadSync("shared.dyn"),
            s.ThreadSync("warp"),
            s.InferFragment(),
            s.LowerThreadAllreduce(),
            s.MergeSharedMemoryAllocations(),
            t.SplitHostDevice(),
            t.BF16StorageLegalize(),
        ]
    )


def device_lowering() -> tvm.transform.Sequential:
    t = tirx.transform
    return tvm.transform.Sequential([t.LowerWarpMemory(), t.StmtSimplify(), t.LowerIntrin()])


def is_call(value: object, name: str) -> bool:
    return isinstance(value, tvm.ir.Call) and isinstance(value.op, tvm.ir.Op) and value.op.name == name


def read_launches(host: tirx.PrimFunc) -> tuple[tuple[Launch, ...], int]:
    """The launches that the host half of a program makes, and the scratch bytes that they share."""
    body = host.body
    statements = list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]
    places = [(parameter, Place("parameter", index)) for index, parameter in enumerate(host.params)]
    launches: list[Launch] = []
    scratch_bytes = 0

    def place(data: tvm.ir.Expr) -> Place:
        assert is_call(data, "tirx.buffer_data"), f"a kernel's argument is {data}, not a buffer"
        return next(found for var, found in places if var.same_as(data.args[0]))

    for statement in statements:
        if isinstance(statement, tirx.AllocBuffer):
            places.append((statement.buffer, Place("scratch", scratch_bytes)))
            scratch_bytes += -(-buffer_bytes(statement.buffer) // ALIGN) * ALIGN
        elif isinstance(statement, tirx.DeclBuffer):
            places.append((statement.buffer, place(statement.data)))
        else:
            assert isinstance(statement, tirx.Evaluate), f"cannot launch {statement}"
            assert is_call(statement.value, "tirx.call_ffi_kernel"), f"cannot launch {statement}"
            launches.append(read_launch(statement.value, place))
    return tuple(launches), scratch_bytes


def read_launch(call: tvm.ir.Call, place: Callable[[tvm.ir.Expr], Place]) -> Launch:
    """kernel("name", pointers ..., extents ...): one extent for each of the call's `launch_params`."""
    tags = [str(tag) for tag in call.attrs.launch_params]
    name, arguments, extents = call.args[0], call.args[1 : len(call.args) - len(tags)], call.args[len(call.args) - len(tags) :]
    assert all(isinstance(extent, tirx.IntImm) for extent in extents), f"not a static launch: {call}"
    sizes = {tag: int(extent) for tag, extent in zip(tags, extents, strict=True)}
    grid, block = (tuple(sizes.pop(f"{kind}.{axis}", 1) for axis in AXES) for kind in ("blockIdx", "threadIdx"))
    shared_bytes = sizes.pop("tirx.use_dyn_shared_memory", 0)
    assert not sizes, f"launch parameters that we do not serve: {sizes}"
    return Launch(str(name.value), grid, block, shared_bytes, tuple(place(argument) for argument in arguments))


def buffer_bytes(buffer: tirx.Buffer) -> int:
    size = (tvm.DataType(str(buffer.dtype)).bits + 7) // 8
    for extent in buffer.shape:
        size *= int(extent)
    return size


def build_kernels(programs: Sequence[tirx.PrimFunc], target: Target, on_progress: Callable[[int, int], None] | None = None) -> Kernels:
    """Lower `programs`, each called by its `global_symbol`, and print all of their kernels as one piece of CUDA."""
    codegen = tvm.target.Target(dict(target.codegen))
    bind = tirx.transform.BindTarget(codegen.with_host(tvm.target.Target("llvm")))
    device: dict[str, tirx.PrimFunc] = {}
    launches: dict[str, tuple[Launch, ...]] = {}
    scratch_bytes = 0
    with codegen:
        for done, program in enumerate(programs, 1):
            name = str(program.attrs["global_symbol"])
            module = lowering()(bind(tvm.IRModule({name: program})))
            for symbol, function in module.functions.items():
                if symbol.name_hint == name:
                    launches[name], wanted = read_launches(function)
                    scratch_bytes = max(scratch_bytes, wanted)
                else:
                    assert symbol.name_hint not in device, f"two kernels are called {symbol.name_hint}"
                    device[symbol.name_hint] = function
            if on_progress:
                on_progress(done, len(programs) + 1)
        module = device_lowering()(tvm.IRModule(device))
        source = str(tvm.get_global_func("target.build.cuda")(module, codegen).inspect_source())
    return Kernels(source, launches, scratch_bytes)
