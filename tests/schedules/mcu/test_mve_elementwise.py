"""Helium kernels for what is computed element by element, to the last bit, in one firmware."""

from pathlib import Path

import numpy as np
import pytest
from tvm import te, tirx

from relay_passes.integers import fixed_point
from relay_passes.integers.intrinsics import requantize
from schedules.machine import Machine
from schedules.mcu.mve_elementwise import mve_elementwise
from tests.schedules.mcu.mve_firmware import M55, Firmware, need_tools, space

SHAPE = (1, 5, 3, 3)  # not a whole number of vectors


def clamp(x, low=-128, high=127):
    return fixed_point.clamp(x, low, high)


def scaled(function, a, b, zero=3, low=-128):
    left, right = (function((x - 5) * (1 << 20), factor, shift) for x, factor, shift in ((a, 1623821475, -2), (b, 1 << 30, 0)))
    return clamp(function(left + right, 1098017566, -17) + zero, low)


ELEMENTS = {  # with the function that requantises
    "scaled sum": scaled,
    "scaled sum, rectified": lambda function, a, b: scaled(function, a, b, zero=-100, low=-100),
    "difference": lambda function, a, b: clamp(function(a - b, 1 << 30, 1)),
    "plane": lambda function, a, b: clamp((a * 8578262 + b * 3243230 - 153953293) >> 22),
    "product": lambda function, a, b: clamp(function((a - 7) * (b + 9), 2017566001, -7), -90, 80),
    "ties": lambda function, a, b: clamp(function(a * 4 + b, 1 << 30, -2)),
}


def program(element, shape=SHAPE, other=SHAPE):
    a, b = te.placeholder(shape, "int8", "a"), te.placeholder(other, "int8", "b")

    def result(*index):
        there = tuple(0 if extent == 1 else at for extent, at in zip(other, index, strict=True))
        return element(requantize, a[index].astype("int32"), b[there].astype("int32")).astype("int8")

    return te.create_prim_func([a, b, te.compute(shape, result, "y")], index_dtype_override="int64")


def test_elements_to_the_last_bit(tmp_path: Path) -> None:
    need_tools()
    rng = np.random.default_rng(0)
    firmware, wanted = Firmware(), []
    for element in ELEMENTS.values():
        a, b = rng.integers(-128, 128, (2, *SHAPE)).astype(np.int8)
        y = element(fixed_point.requantize, a.astype(np.int32), b.astype(np.int32)).astype(np.int8)
        for overlapped in (False, True):
            firmware.add(space(mve_elementwise, program(element)), {}, a, [b], y.size, overlapped)
            wanted.append(y)
    for name, y, found in zip(np.repeat(list(ELEMENTS), 2), wanted, firmware.run(tmp_path), strict=True):
        assert np.array_equal(found, y.ravel()), name


@pytest.mark.parametrize(
    "left_alone",
    [
        program(ELEMENTS["plane"], other=(1, 1, 1, 3)),
        program(lambda _, a, b: tirx.Select(a > b, a, b)),
        program(lambda _, a, b: clamp(a >> (b & 7))),
    ],
    ids=["broadcast", "choice", "shift by a vector"],
)
def test_other_programs_are_left_alone(left_alone: tirx.PrimFunc) -> None:
    assert mve_elementwise(left_alone, M55) is None


def test_other_machines_are_left_alone() -> None:
    assert mve_elementwise(program(ELEMENTS["plane"]), Machine(dsp=True)) is None
