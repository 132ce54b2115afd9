"""The largest byte of each window: windows across borders, any number of channels."""

import ctypes

import numpy as np
import pytest
import tvm
from tvm import relax, tirx

from relay_passes.bytes.largest import largest_rule
from relay_passes.integers.programs import Programs
from relay_passes.rewrite import Graph
from schedules.cpu import RULES
from schedules.rule import first_space
from tests.schedules.cpu.dot_build import MACHINES, built

# image, window, strides, padding, dilation
POOLS = [
    ((2, 9, 10, 64), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    ((1, 7, 8, 70), (2, 3), (1, 2), (0, 1, 1, 0), (1, 1)),
    ((1, 12, 11, 130), (3, 2), (1, 1), (2, 2, 3, 1), (2, 3)),
    ((1, 8, 8, 5), (8, 8), (1, 1), (3, 3, 3, 3), (1, 1)),
    ((1, 6, 5, 1), (2, 2), (2, 2), (0, 0, 0, 0), (1, 1)),
]


def program(image: tuple[int, ...], window: tuple[int, int], strides: object, pad: object, dilation: object) -> tirx.PrimFunc:
    x = relax.Var("x", relax.TensorType(image, "uint8"))
    call = relax.op.nn.max_pool2d(x, window, strides, pad, dilation, layout="NHWC")
    function = relax.BlockBuilder().normalize(call)
    programs = Programs(tvm.IRModule())
    graph = Graph(tvm.IRModule(), relax.Function([x], relax.SeqExpr([relax.DataflowBlock([])], x), x.ty))
    assert largest_rule(programs)(function, graph) is not None
    (found,) = (function for function in programs.builder.get().functions.values() if isinstance(function, tirx.PrimFunc))
    return found


def reference(
    x: np.ndarray, window: tuple[int, int], strides: tuple[int, int], pad: tuple[int, ...], dilation: tuple[int, int]
) -> np.ndarray:
    top, left, bottom, right = pad
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    extents = [(size - step * (width - 1) - 1) for size, width, step in zip(padded.shape[1:3], window, dilation, strict=True)]
    shifted = [
        padded[:, r * dilation[0] :, s * dilation[1] :][:, : extents[0] + 1 : strides[0], : extents[1] + 1 : strides[1]]
        for r in range(window[0])
        for s in range(window[1])
    ]
    result: np.ndarray = np.maximum.reduce(shifted)
    return result


@pytest.mark.parametrize("machine", MACHINES)
def test_it_is_the_largest_of_each_window(machine: str) -> None:
    programs = [program(*pool) for pool in POOLS]
    spaces = [first_space(RULES, each, MACHINES[machine]) for each in programs]
    assert {space.rule for space in spaces} == {"max_of_bytes"}
    with built([space.apply(space.default).mod["main"] for space in spaces], machine) as library:
        for index, pool in enumerate(POOLS):
            x = np.random.default_rng(index).integers(0, 256, pool[0]).astype("uint8")
            want = reference(x, *pool[1:])
            made = np.full(want.size + 64, 77, "uint8")
            assert library[f"kernel{index}"](ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(made.ctypes.data)) == 0
            np.testing.assert_array_equal(made[:-64].reshape(want.shape), want, err_msg=str(pool))
            assert (made[-64:] == 77).all()
