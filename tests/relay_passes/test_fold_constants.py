from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.fold_constants import TABLE, fold_constants
from relay_passes.rewrite import array, op_name
from tests.relay_passes.network import const, network, run

op = relax.op
A, B, SIGNED = const(2, 3, 4, seed=1, low=0.1), const(2, 3, 4, seed=2, low=0.1), const(2, 3, 4, seed=3)
TRUTH, WHOLE = relax.const(np.arange(24).reshape(2, 3, 4) % 3 == 0), relax.const(np.arange(-12, 12).reshape(2, 3, 4), "int64")


def bytes_of(*shape: int) -> relax.Expr:
    return relax.const(np.random.default_rng(0).integers(-128, 128, shape).astype("int8"), "int8")


CASES: list[Callable[[], relax.Expr]] = [
    lambda: op.reshape(A, (6, 4)),
    lambda: op.squeeze(const(2, 1, 3), [1]),
    lambda: op.expand_dims(A, [1]),
    lambda: op.flatten(A),
    lambda: op.permute_dims(A, [2, 0, 1]),
    lambda: op.permute_dims(const(300, 5), [1, 0]),
    lambda: op.permute_dims(const(300, 5)),
    lambda: op.permute_dims(const(4, 4), [0, 1]),
    lambda: op.broadcast_to(const(3, 1), (2, 3, 4)),
    lambda: op.astype(SIGNED, "float16"),
    lambda: op.concat([A, B], axis=1),
    lambda: op.stack([A, B], axis=-1),
    lambda: op.strided_slice(A, [1, 2], [0, -1], [2, -5], [1, -2]),
    lambda: op.take(A, relax.const([2, 0], "int64"), axis=1),
    lambda: op.clip(SIGNED, -0.25, 0.5),
    lambda: op.dequantize(bytes_of(2, 3, 4), relax.const(0.1, "float32"), relax.const(-5, "int8")),
    lambda: op.dequantize(bytes_of(2, 30, 4000), const(30, low=0.1), bytes_of(30), axis=1),
    lambda: op.add(A, const(4)),
    lambda: op.subtract(A, B),
    lambda: op.multiply(A, B),
    lambda: op.divide(A, B),
    lambda: op.divide(WHOLE, relax.const(5, "int64")),
    lambda: op.maximum(A, B),
    lambda: op.minimum(A, B),
    lambda: op.negative(A),
    lambda: op.abs(SIGNED),
    lambda: op.sqrt(A),
    lambda: op.rsqrt(A),
    lambda: op.exp(SIGNED),
    lambda: op.log(A),
    lambda: op.power(A, B),
    *[
        lambda name=name: getattr(op, name)(SIGNED)
        for name in ("floor", "ceil", "round", "sin", "cos", "square", "sign", "tanh", "sigmoid", "erf")
    ],
    *[lambda name=name: getattr(op.nn, name)(SIGNED) for name in ("relu", "silu", "gelu")],
    lambda: op.nn.leakyrelu(SIGNED, 0.3),
    lambda: op.isnan(SIGNED),
    lambda: op.where(TRUTH, A, B),
    lambda: op.less(A, B),
    lambda: op.less_equal(A, B),
    lambda: op.greater(A, B),
    lambda: op.greater_equal(A, B),
    lambda: op.equal(WHOLE, relax.const(3, "int64")),
    lambda: op.not_equal(WHOLE, relax.const(3, "int64")),
    lambda: op.logical_and(TRUTH, op.isnan(A)),
    lambda: op.logical_or(TRUTH, op.isnan(A)),
    lambda: op.logical_not(TRUTH),
    lambda: op.sum(SIGNED, [0, 2]),
    lambda: op.mean(SIGNED, [-1], keepdims=True),
    lambda: op.max(SIGNED, [1]),
    lambda: op.min(SIGNED),
    lambda: op.prod(A, [2]),
    lambda: op.full((2, 3), relax.const(1.5, "float32"), "float32"),
    lambda: op.zeros((2, 3), "float32"),
    lambda: op.ones((2, 3), "int64"),
]


def constant_network(make: Callable[[], relax.Expr]) -> tvm.IRModule:
    return network(lambda _x: make(), (1,))


def folded(module: tvm.IRModule) -> np.ndarray | None:
    return array(fold_constants(module)["main"].body.blocks[0].bindings[-1].value)


def test_every_operator_of_the_table_is_tested() -> None:
    assert {op_name(make()) for make in CASES} == {*TABLE, "relax.dequantize"}


def test_the_table_computes_what_tvm_computes() -> None:
    every = network(lambda _x: relax.Tuple([make() for make in CASES]), (1,))
    for make, expected in zip(CASES, run(every, [np.zeros(1, "float32")]), strict=True):
        actual = folded(constant_network(make))
        assert actual is not None
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(actual.astype("float64"), expected.astype("float64"), rtol=1e-6, err_msg=str(make()))


def test_a_whole_expression_folds() -> None:
    actual = folded(constant_network(lambda: op.add(op.permute_dims(op.reshape(A, (6, 4)), [1, 0]), const(6))))
    left, right = array(A), array(const(6))
    assert left is not None
    assert right is not None
    expected = left.reshape(6, 4).T + right
    np.testing.assert_array_equal(actual, expected)


def test_float32_stays_float32_throughout() -> None:
    tenth = relax.const(0.1, "float32")
    assert folded(constant_network(lambda: op.add(op.multiply(tenth, tenth), tenth))) == np.float32(0.1) * np.float32(0.1) + np.float32(0.1)


def test_the_shape_of_a_tensor_is_a_constant() -> None:
    module = network(lambda x: op.shape_to_tensor(op.shape_of(x)), (5, 7))
    np.testing.assert_array_equal(folded(module), [5, 7])


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(network(lambda x: op.add(x, const(4)), (4,)), id="depends on an input"),
        pytest.param(constant_network(lambda: op.broadcast_to(const(1), (256, 256, 2))), id="would swell"),
        pytest.param(constant_network(lambda: op.acos(A)), id="not in the table"),
    ],
)
def test_left_alone(module: tvm.IRModule) -> None:
    tvm.ir.assert_structural_equal(fold_constants(module), module)
