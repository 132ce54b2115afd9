"""Operators that only move values, on integers: against TFLite Micro, and without arithmetic in between."""

import numpy as np
import pytest

from tests.frontends.tflite.build import C, Op, T, model, op
from tests.relay_passes.integers.host import expect_same

MEANING = {"scale": 0.05, "zero_point": -11}
X = (2, 4, 6, 3)


def moved(name: str, y: tuple[int, ...], *constants: T, **options: object) -> tuple[bytes, list[tuple[tuple[int, ...], str]]]:
    """A network of one operator between two that compute, so that it meets their dequantize and quantize."""
    names = [item.name for item in constants]
    data = model(
        inputs=[T("x", X, "int8", scale=0.04, zero_point=9)],
        constants=constants,
        tensors=[T("a", X, "int8", **MEANING), T("b", y, "int8", **MEANING), T("y", y, "int8", scale=0.03, zero_point=2)],
        ops=[op("QUANTIZE", ["x"], ["a"]), op(name, ["a", *names], ["b"], **options), op("QUANTIZE", ["b"], ["y"])],
        outputs=["y"],
    )
    return data, [(X, "int8")]


def numbers(name: str, values: object) -> T:
    return C(name, np.array(values, "int32"))


@pytest.mark.parametrize(
    ("name", "shape", "constants", "options"),
    [
        ("RESHAPE", (8, 18), [numbers("shape", [8, 18])], {}),
        ("TRANSPOSE", (2, 6, 3, 4), [numbers("order", [0, 2, 3, 1])], {}),
        ("PAD", (2, 7, 7, 3), [numbers("widths", [[0, 0], [1, 2], [0, 1], [0, 0]])], {}),
        ("SLICE", (2, 2, 3, 3), [numbers("begin", [0, 1, 2, 0]), numbers("size", [2, 2, 3, 3])], {}),
        (
            "STRIDED_SLICE",
            (2, 2, 3, 3),
            [numbers("begin", [0, 0, 1, 0]), numbers("end", [2, 4, 6, 3]), numbers("strides", [1, 2, 2, 1])],
            {},
        ),
        ("EXPAND_DIMS", (2, 1, 4, 6, 3), [numbers("axis", 1)], {}),
        ("RESIZE_NEAREST_NEIGHBOR", (2, 8, 9, 3), [numbers("size", [8, 9])], {}),
        ("SPACE_TO_DEPTH", (2, 2, 3, 12), [], {"block_size": 2}),
        ("CONCATENATION", (2, 4, 6, 6), [C("c", np.arange(-72, 72, dtype="int8").reshape(X), **MEANING)], {"axis": 3}),
    ],
)
def test_moves(name: str, shape: tuple[int, ...], constants: list[T], options: dict[str, object]) -> None:
    host = expect_same(*moved(name, shape, *constants, **options))
    assert sum(call.startswith("requantize") for call in host.calls) == 2
    assert len(host.calls) <= 5


def test_split_parts_stay_integers() -> None:
    parts = [T(f"p{index}", (2, 4, 3, 3), "int8", scale=0.04, zero_point=9) for index in range(2)]
    data = model(
        inputs=[T("x", X, "int8", scale=0.04, zero_point=9)],
        constants=[numbers("axis", 2)],
        tensors=[*parts, T("y", (2, 4, 3, 3), "int8", scale=0.06, zero_point=1)],
        ops=[op("SPLIT", ["axis", "x"], ["p0", "p1"], num_splits=2), op("ADD", ["p0", "p1"], ["y"])],
        outputs=["y"],
    )
    host = expect_same(data, [(X, "int8")])
    assert host.calls[-1] == "add"


def test_pack_and_unpack() -> None:
    rows: list[T] = [T(f"r{index}", (5,), "int8", **MEANING) for index in range(3)]
    ops: list[Op] = [op("UNPACK", ["x"], [item.name for item in rows], num=3, axis=0)]
    ops.append(op("PACK", ["r2", "r0", "r1"], ["y"], values_count=3, axis=1))
    data = model(inputs=[T("x", (3, 5), "int8", **MEANING)], tensors=[*rows, T("y", (5, 3), "int8", **MEANING)], ops=ops, outputs=["y"])
    expect_same(data, [((3, 5), "int8")])


@pytest.mark.parametrize("name", ["ARG_MAX", "ARG_MIN"])
def test_positions_of_extremes(name: str) -> None:
    data = model(
        inputs=[T("x", (4, 30), "int8", **MEANING)],
        constants=[numbers("axis", 1)],
        tensors=[T("y", (4,), "int32")],
        ops=[op(name, ["x", "axis"], ["y"])],
        outputs=["y"],
    )
    expect_same(data, [((4, 30), "int8")])


def test_products_of_activations() -> None:
    given = [T("a", (2, 3, 7), "int8", scale=0.04, zero_point=9), T("b", (2, 7, 5), "int8", scale=0.02, zero_point=-100)]
    data = model(
        inputs=given,
        tensors=[T("y", (2, 3, 5), "int8", scale=0.5, zero_point=4)],
        ops=[op("BATCH_MATMUL", ["a", "b"], ["y"])],
        outputs=["y"],
    )
    expect_same(data, [((2, 3, 7), "int8"), ((2, 7, 5), "int8")])
