"""Integer modules on the machine that runs the tests: each program built by LLVM, called one after the other on numpy arrays."""

from collections.abc import Sequence

import numpy as np
import tvm
from tvm import relax, tirx

from relay_passes.choices import Choices
from relay_passes.integers.lower_integers import FLOAT_ISLANDS
from relay_passes.pipeline import mcu_passes
from schedules.machine import Machine
from stack.frontends.tflite import load
from tests.frontends.tflite.build import Micro

FLOATS = frozenset({"dequantize", "quantize"})  # the programs that read or write floats where a network does


def lowered(module: tvm.IRModule) -> tvm.IRModule:
    """The module as microcontrollers' emission gets it."""
    return tvm.transform.Sequential(mcu_passes(Machine(), Choices()))(module)


class Host:
    """A lowered module, ready to run. `calls` are the programs in order; `results` what each of them wrote in the last run."""

    def __init__(self, module: tvm.IRModule) -> None:
        self.module = lowered(module)
        self.main = self.module["main"]
        self.float_islands = [str(item) for item in self.module.attrs[FLOAT_ISLANDS]]
        programs = {var.name_hint: item for var, item in self.module.functions_items() if isinstance(item, tirx.PrimFunc)}
        named = {name: item.with_attr("global_symbol", name) for name, item in programs.items()}
        self.library = tvm.compile(tvm.IRModule(named), tvm.target.Target({"kind": "llvm", "opt-level": 1})) if named else None
        bindings = [binding.value for block in self.main.body.blocks for binding in block.bindings]
        self.calls = [call.op.name_hint for call in bindings if isinstance(call, relax.Call) and isinstance(call.op, tvm.ir.GlobalVar)]
        self.results: list[np.ndarray] = []

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        values = dict(zip(self.main.params, inputs, strict=True))
        self.results = []

        def value(expr: relax.Expr) -> np.ndarray:
            return values[expr] if isinstance(expr, relax.Var) else expr.value.numpy()

        for binding in [item for block in self.main.body.blocks for item in block.bindings]:
            call = binding.value
            if isinstance(call, relax.Tuple):
                values[binding.var] = [value(field) for field in call.fields]
                continue
            if isinstance(call.op, tvm.ir.GlobalVar):
                tensors = [tvm.runtime.tensor(np.ascontiguousarray(value(argument))) for argument in call.args]
                self.library[call.op.name_hint](*tensors)
                values[call.args[-1]] = tensors[-1].numpy()
                self.results.append(values[call.args[-1]])
                continue
            shape = [int(extent) for extent in binding.var.ty.shape]
            if call.op.name == "relax.builtin.alloc_tensor":
                values[binding.var] = np.zeros(shape, str(binding.var.ty.dtype.dtype))
            else:
                assert call.op.name == "relax.reshape", call
                values[binding.var] = value(call.args[0]).reshape(shape)
        result = self.main.body.body
        if isinstance(result, relax.Tuple):
            return [value(field) for field in result.fields]
        found = values[result]
        return found if isinstance(found, list) else [found]


def random_values(shape: Sequence[int], dtype: str, rng: np.random.Generator) -> np.ndarray:
    """Integers from all that there are, floats from a normal distribution."""
    if dtype == "float32":
        return rng.standard_normal(shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def expect_same(data: bytes, inputs: Sequence[tuple[Sequence[int], str]], runs: int = 4, seed: int = 0) -> Host:
    """The model gives what TFLite Micro gives, to the last bit, on random inputs, in integers only; and its outputs vary."""
    host, micro = Host(load(data, {}).module), Micro(data)
    assert host.float_islands == []
    rng = np.random.default_rng(seed)
    seen = set()
    for _ in range(runs):
        arrays = [random_values(shape, dtype, rng) for shape, dtype in inputs]
        expected, given = micro.run(arrays), host.run(arrays)
        for index, (want, got) in enumerate(zip(expected, given, strict=True)):
            assert (got.dtype, got.shape) == (want.dtype, want.shape), index
            np.testing.assert_array_equal(got, want, err_msg=f"output {index}")
        seen.add(b"".join(want.tobytes() for want in expected))
    assert len(seen) > 1, "the outputs do not depend on the inputs"
    return host
