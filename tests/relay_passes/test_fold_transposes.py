from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.fold_transposes import fold_transposes
from tests.relay_passes.network import const, network, operators, random_inputs, run

op, nn = relax.op, relax.op.nn
IMAGE = (2, 3, 4, 5)
LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]  # channels last, and first again


def last(x: relax.Expr) -> relax.Expr:
    return op.permute_dims(x, LAST)


def first(x: relax.Expr) -> relax.Expr:
    return op.permute_dims(x, FIRST)


@pytest.mark.parametrize(
    ("body", "shape", "expected"),
    [
        pytest.param(lambda x: nn.relu(first(last(x))), IMAGE, ["nn.relu"], id="a pair cancels"),
        pytest.param(lambda x: last(last(x)), IMAGE, ["permute_dims"], id="two become one"),
        pytest.param(lambda x: first(nn.relu(last(x))), IMAGE, ["nn.relu"], id="a pair around relu"),
        pytest.param(lambda x: first(op.add(last(x), const(3))), IMAGE, ["add"], id="a pair around a bias"),
        pytest.param(lambda x: first(op.multiply(last(x), last(x))), IMAGE, ["multiply"], id="both operands"),
        pytest.param(lambda x: first(op.concat([last(x), last(x)], axis=3)), IMAGE, ["concat"], id="a pair around concat"),
        pytest.param(lambda x: op.sum(last(x), axis=[-1]), IMAGE, ["sum"], id="a sum over the axis that moved last"),
        pytest.param(lambda x: op.permute_dims(op.max(last(x), axis=[2]), [2, 0, 1]), IMAGE, ["max", "permute_dims"], id="a maximum"),
        pytest.param(lambda x: first(op.mean(last(x), axis=[1, 2], keepdims=True)), IMAGE, ["mean"], id="mean that keeps its axes"),
        pytest.param(lambda x: last(x), (2, 1, 4, 5), ["reshape"], id="only a unit axis moves"),
        pytest.param(
            lambda x: op.permute_dims(op.reshape(op.permute_dims(x, [0, 2, 1, 3]), (6, 4, 2)), [0, 2, 1]),
            (1, 4, 6, 2),
            ["permute_dims", "reshape"],
            id="two around a dropped unit axis",
        ),
    ],
)
def test_folds(body: Callable[[relax.Expr], relax.Expr], shape: tuple[int, ...], expected: list[str]) -> None:
    assert operators(fold_transposes(network(body, shape))) == expected


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda x: last(x), id="one transpose"),
        pytest.param(lambda x: op.permute_dims(op.add(x, const(5)), LAST), id="already behind"),
        pytest.param(lambda x: nn.softmax(last(x), axis=-1), id="an operator that is not elementwise"),
        pytest.param(lambda x: op.permute_dims(op.reshape(last(x), (2, 20, 3)), [0, 2, 1]), id="a reshape that merges axes between"),
    ],
)
def test_left_alone(body: Callable[[relax.Expr], relax.Expr]) -> None:
    before = network(body, IMAGE)
    tvm.ir.assert_structural_equal(fold_transposes(before), before)


def test_different_transposes_stay_apart() -> None:
    before = network(lambda x: op.add(op.permute_dims(x, [1, 0, 2]), op.permute_dims(x, [0, 2, 1])), (4, 4, 4))
    tvm.ir.assert_structural_equal(fold_transposes(before), before)


def test_quantisation_of_whole_tensors_lets_transposes_meet() -> None:
    def body(x: relax.Expr) -> relax.Expr:
        scale, zero = relax.const(np.float32(0.1)), relax.const(np.int8(3), "int8")
        stored = op.quantize(op.permute_dims(x, [0, 2, 1]), scale, zero, 0, "int8")
        return op.permute_dims(op.dequantize(stored, scale, zero, 0), [0, 2, 1])

    before = network(body, (2, 3, 4))
    after = fold_transposes(before)
    assert operators(after) == ["quantize", "dequantize"]
    inputs = random_inputs(before)
    np.testing.assert_array_equal(run(after, inputs)[0], run(before, inputs)[0])


def test_quantisation_of_channels_keeps_its_order() -> None:
    def body(x: relax.Expr) -> relax.Expr:
        scale, zero = const(4, low=0.1), relax.const(np.zeros(4, np.int8))
        return op.quantize(op.permute_dims(x, [0, 2, 1]), scale, zero, 1, "int8")

    before = network(body, (2, 3, 4))
    tvm.ir.assert_structural_equal(fold_transposes(before), before)
