"""Networks for tests, written as one Python function over Relax variables: `network(lambda x: relax.op.nn.relu(x), (1, 4))`."""

from collections.abc import Callable, Sequence

import numpy as np
import tvm
from tvm import relax

from relay_passes.lower_conv2d import lower_conv2d

FAST_BUILD = tvm.target.Target({"kind": "llvm", "opt-level": 0})  # tiny networks: building takes longer than running
Shape = tuple[int, ...]
Input = Shape | tuple[Shape, str]


def network(body: Callable[..., relax.Expr], *inputs: Input) -> tvm.IRModule:
    """A module whose `main` has the given inputs (a shape, or a shape and a dtype) and returns what `body` makes of them."""
    params = []
    for index, item in enumerate(inputs):
        shape, dtype = item if len(item) == 2 and isinstance(item[1], str) else (item, "float32")
        params.append(relax.Var(f"x{index}", relax.TensorType(shape, dtype)))
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            result = builder.emit_output(builder.normalize(body(*params)))
        builder.emit_func_output(result)
    return relax.transform.CanonicalizeBindings()(builder.finalize())


def const(*shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0) -> relax.Expr:
    """A float32 constant, uniform between `low` and `high`, the same for the same seed."""
    return relax.const(np.random.default_rng(seed).uniform(low, high, shape).astype("float32"), "float32")


def operators(module: tvm.IRModule) -> list[str]:
    """What `main` calls, in order, without the prefix `relax.`: operators, or the names of programs."""
    names = []
    for block in module["main"].body.blocks:
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Call):
                program = value.op.name == "relax.call_tir" if isinstance(value.op, tvm.ir.Op) else False
                names.append(value.args[0].name_hint if program else value.op.name.removeprefix("relax."))
            elif isinstance(value, relax.TupleGetItem):
                names.append("TupleGetItem")
    return names


def random_inputs(module: tvm.IRModule, seed: int = 0) -> list[np.ndarray]:
    """Floats from a normal distribution, whole numbers from zero to four."""
    rng = np.random.default_rng(seed)
    arrays = []
    for param in module["main"].params:
        shape, dtype = tuple(map(int, param.ty.shape)), str(param.ty.dtype.dtype)
        whole = not dtype.startswith("float")
        arrays.append(rng.integers(0, 5, shape).astype(dtype) if whole else rng.standard_normal(shape).astype(dtype))
    return arrays


def run(module: tvm.IRModule, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """All outputs of `main`, by TVM's own build and virtual machine."""
    module = relax.transform.LegalizeOps({"relax.nn.conv2d": lower_conv2d}, enable_warning=False)(module)  # TVM knows no blocked images
    machine = relax.VirtualMachine(tvm.compile(module, FAST_BUILD), tvm.cpu())
    result = machine["main"](*[tvm.runtime.tensor(array) for array in inputs])
    return [tensor.numpy() for tensor in result] if isinstance(result, tvm.ir.Array | tuple | list) else [result.numpy()]


def run_planned(module: tvm.IRModule, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """All outputs of a `main` that went through `plan_memory`: every program runs on slices of one array, so wrong places show."""
    main = module["main"]
    kernels = {var.name_hint: function for var, function in module.functions.items() if isinstance(function, tvm.tirx.PrimFunc)}
    library = tvm.compile(tvm.IRModule({name: kernel.with_attr("global_symbol", name) for name, kernel in kernels.items()}), FAST_BUILD)
    values: dict[relax.Var, np.ndarray] = dict(zip(main.params, inputs, strict=True))
    arena = np.zeros(0, "uint8")

    def value(expr: relax.Expr) -> np.ndarray:
        return values[expr] if isinstance(expr, relax.Var) else expr.value.numpy()

    for binding in main.body.blocks[0].bindings:
        call, var = binding.value, binding.var
        if isinstance(call, relax.Tuple):
            outputs = [value(field) for field in call.fields]
            continue
        if isinstance(call.op, tvm.ir.GlobalVar):
            tensors = [tvm.runtime.tensor(np.array(value(argument), order="C")) for argument in call.args]
            library[call.op.name_hint](*tensors)
            values[call.args[-1]][...] = tensors[-1].numpy()
            continue
        if call.op.name == "relax.memory.alloc_storage":
            arena = np.full(int(call.args[0].values[0]), 0x7F, "uint8")
            continue
        shape, dtype = tuple(map(int, var.ty.shape)), str(var.ty.dtype.dtype)
        if call.op.name == "relax.memory.alloc_tensor":
            size, offset = int(np.prod(shape)) * np.dtype(dtype).itemsize, int(call.args[1])
            values[var] = arena[offset : offset + size].view(dtype).reshape(shape)
        elif call.op.name == "relax.builtin.alloc_tensor":
            values[var] = np.empty(shape, dtype)
        else:
            assert call.op.name == "relax.reshape", call
            values[var] = value(call.args[0]).reshape(shape)
    result = main.body.body
    return [value(result)] if isinstance(result.ty, relax.TensorType) else outputs
