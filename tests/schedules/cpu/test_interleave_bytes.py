"""Channels laid side by side as bytes: as many as there may be, rows that no vector divides, several images, and what is left to others."""

import ctypes

import numpy as np
import pytest
from tvm import te, tirx

from schedules.cpu import RULES
from schedules.cpu.interleave_bytes import interleave_bytes
from schedules.rule import first_space
from tests.schedules.cpu import dot_build
from tests.schedules.cpu.dot_build import MACHINES


def quantised(shape: tuple[int, int, int, int], dtype: str = "uint8") -> tirx.PrimFunc:
    """x [n, c, h, w] of float32, doubled, as bytes [n, h, w, c]."""
    n, c, h, w = shape
    x = te.placeholder(shape, "float32", name="x")
    q = te.compute(shape, lambda *i: (x[i] * tirx.const(2.0, "float32")).astype("int32").astype(dtype), name="quantize")
    y = te.compute((n, h, w, c), lambda b, i, j, k: q[b, k, i, j], name="transpose")
    return te.create_prim_func([x, y], index_dtype_override="int64")


@pytest.mark.parametrize("machine", MACHINES)
def test_every_pixel_is_exact(machine: str) -> None:
    cases = [
        (shape, dtype)
        for shape in ((1, 3, 5, 16), (2, 3, 4, 37), (1, 2, 3, 20), (1, 4, 1, 33), (1, 3, 130, 111))
        for dtype in ("uint8", "int8")
    ]
    spaces = [first_space(RULES, quantised(*case), dot_build.MACHINES[machine]) for case in cases]
    assert {space.rule for space in spaces} == {"interleave_bytes"}
    rng = np.random.default_rng(0)
    with dot_build.built([space.apply(space.default).mod["main"] for space in spaces], machine) as library:
        for index, (shape, dtype) in enumerate(cases):
            x = rng.integers(0, 63, shape).astype(np.float32)
            y = np.full(x.size + 64, 77, dtype)
            assert library[f"kernel{index}"](*(ctypes.c_void_p(array.ctypes.data) for array in (x, y))) == 0
            expected = (2 * x).astype(dtype).transpose(0, 2, 3, 1)
            np.testing.assert_array_equal(y[:-64].reshape(expected.shape), expected, err_msg=str((shape, dtype)))
            assert (y[-64:] == 77).all()


@pytest.mark.parametrize("program", [quantised((1, 5, 4, 32)), quantised((1, 3, 4, 15)), quantised((1, 3, 4, 32), "int32")])
def test_other_transposes_are_declined(program: tirx.PrimFunc) -> None:
    assert interleave_bytes(program, dot_build.VNNI) is None
    assert first_space(RULES, program, dot_build.VNNI).rule == "elementwise"


def test_channels_side_by_side_already_are_declined() -> None:
    x = te.placeholder((1, 4, 32, 3), "float32", name="x")
    y = te.compute(x.shape, lambda *i: x[i].astype("int32").astype("uint8"), name="quantize")
    assert interleave_bytes(te.create_prim_func([x, y], index_dtype_override="int64"), dot_build.VNNI) is None
