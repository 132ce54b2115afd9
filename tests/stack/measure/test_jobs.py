"""What is known of a job before any candidate is built, and which differences of outputs are none."""

from pathlib import Path

import numpy as np
import pytest
from tvm import tirx

from stack.measure.candidate import Argument, wrong
from stack.measure.jobs import rounds


def program(how: str) -> tirx.PrimFunc:
    """Four floats, each of them rounded on the way, or not."""
    x, y = (tirx.decl_buffer((4,), "float32", name=name) for name in "xy")
    i = tirx.Var("i", "int32")
    bits = tirx.reinterpret("int32", x[i] + tirx.const(12582912.0, "float32"))
    value = {
        "plain": x[i] * tirx.const(2.0, "float32"),
        "cast": x[i].astype("uint8").astype("float32"),
        "bits": (bits & tirx.const(255, "int32")).astype("float32"),
    }[how]
    body = tirx.For(i, tirx.const(0, "int32"), tirx.const(4, "int32"), tirx.ForKind.SERIAL, tirx.BufferStore(y, value, [i]))
    return tirx.PrimFunc([x, y], body)


@pytest.mark.parametrize(("how", "rounded"), [("plain", False), ("cast", True), ("bits", True)])
def test_a_program_rounds_by_a_cast_or_by_the_bits_of_a_large_sum(how: str, rounded: bool) -> None:
    arguments = [Argument(role, (4,), "float32", Path()) for role in ("input", "output")]
    assert rounds(program(how), arguments) == rounded


def test_scalars_are_compared_like_all_others() -> None:
    one, other = np.array(1.0, np.float32), np.array(1.5, np.float32)
    assert wrong(one, one.copy(), "float32", "f32", rounds=False) == ""
    assert wrong(one, other, "float32", "f32", rounds=False) == "off by 0.5 where the largest value is 1.5"
