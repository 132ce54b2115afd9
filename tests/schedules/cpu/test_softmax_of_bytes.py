"""Softmax of bytes on the CPU: its sums are in the order of the source."""

import numpy as np
import pytest
import tvm
from tvm import relax, tirx

from relay_passes.bytes.softmax import exponentials, softmax
from relay_passes.integers.island import Operand
from relay_passes.integers.programs import Programs
from schedules.cpu.softmax_of_bytes import softmax_of_bytes
from schedules.machine import Machine


def program(shape: tuple[int, ...], scale: float) -> tirx.PrimFunc:
    x = relax.Var("x", relax.TensorType(shape, "uint8"))
    programs = Programs(tvm.IRModule())
    softmax(Operand(np.asarray(scale, "float32"), np.zeros((), "int32"), 0, "uint8", x), np.float32(1 / 255.5), programs)
    (found,) = (function for function in programs.builder.get().functions.values() if isinstance(function, tirx.PrimFunc))
    return found.with_attr("global_symbol", "main")


@pytest.mark.parametrize("shape", [(2, 3, 16, 40), (7, 129), (1, 5)])
def test_it_is_the_source_to_the_last_bit(shape: tuple[int, ...]) -> None:
    scale = np.float32(0.07)
    space = softmax_of_bytes(program(shape, float(scale)), Machine(cores=2, vector_bytes=64))
    assert space is not None
    x = np.random.default_rng(1).integers(0, 256, shape).astype("uint8")
    table = exponentials(scale, shape[-1], 255.0)
    e = table[x.astype(int) + 255 - x.max(axis=-1, keepdims=True)]
    want = e * np.float32(255) / np.cumsum(e, axis=-1, dtype="float32")[..., -1:]
    built = tvm.compile(space.apply(space.default).mod["main"], target=tvm.target.Target({"kind": "llvm"}))
    arguments = [tvm.runtime.tensor(value) for value in (x, table, np.float32(255), np.empty(shape, "float32"))]
    built["main"](*arguments)
    np.testing.assert_array_equal(arguments[-1].numpy(), want)
