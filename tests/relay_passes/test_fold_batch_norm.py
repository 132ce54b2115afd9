from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.fold_batch_norm import fold_batch_norm
from relay_passes.rewrite import array
from tests.relay_passes.network import const, network, operators

op, nn = relax.op, relax.op.nn
IMAGE = (1, 3, 8, 8)


def norm(x: relax.Expr, channels: int, training: bool = False) -> relax.Expr:
    statistics = [const(channels, seed=k, low=0.5) for k in range(4)]
    return relax.TupleGetItem(nn.batch_norm(x, *statistics, axis=1, training=training), 0)


def channels(count: int, seed: int = 9) -> relax.Expr:
    return const(1, count, 1, 1, seed=seed)


def conv(x: relax.Expr, **attributes: int) -> relax.Expr:
    return nn.conv2d(x, const(6, 3 // attributes.get("groups", 1), 3, 3), **attributes)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(lambda x: norm(conv(x), 6), ["nn.conv2d", "add"], id="batch norm after a convolution"),
        pytest.param(lambda x: norm(op.add(conv(x), channels(6)), 6), ["nn.conv2d", "add"], id="and a bias"),
        pytest.param(lambda x: norm(conv(x, groups=3), 6), ["nn.conv2d", "add"], id="depthwise"),
        pytest.param(lambda x: norm(nn.conv2d_transpose(x, const(3, 6, 2, 2)), 6), ["nn.conv2d_transpose", "add"], id="transposed"),
        pytest.param(lambda x: norm(x, 3), ["multiply", "add"], id="batch norm alone"),
        pytest.param(
            lambda x: op.add(op.multiply(norm(x, 3), channels(3)), channels(3)), ["multiply", "add"], id="batch norm, scale and shift"
        ),
        pytest.param(lambda x: op.multiply(op.matmul(x, const(8, 5)), const(5, seed=1)), ["matmul"], id="scaled matmul"),
        pytest.param(lambda x: op.multiply(op.add(conv(x), channels(6)), relax.const(0.5, "float32")), ["nn.conv2d", "add"], id="a number"),
    ],
)
def test_folds(body: Callable[[relax.Expr], relax.Expr], expected: list[str]) -> None:
    assert operators(fold_batch_norm(network(body, IMAGE))) == expected


def test_weights_are_scaled_filter_by_filter() -> None:
    module = fold_batch_norm(network(lambda x: op.multiply(conv(x), channels(6)), IMAGE))
    (binding,) = module["main"].body.blocks[0].bindings
    actual, weight, scale = array(binding.value.args[1]), array(const(6, 3, 3, 3)), array(channels(6))
    assert actual is not None
    assert weight is not None
    assert scale is not None
    np.testing.assert_allclose(actual, weight * scale.reshape(6, 1, 1, 1), rtol=1e-7)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda x: op.multiply(conv(x), const(1, 1, 6, 6)), id="scale of pixels"),
        pytest.param(lambda x: op.multiply(nn.relu(conv(x)), channels(6)), id="something between"),
        pytest.param(lambda x: op.multiply(op.add(x, channels(3)), channels(3, 1)), id="shift then scale with no layer to absorb it"),
        pytest.param(lambda x: norm(x, 3, training=True), id="training"),
        pytest.param(lambda x: op.multiply(nn.conv2d(x, op.exp(const(6, 3, 3, 3))), channels(6)), id="weight that is computed"),
    ],
)
def test_left_alone(body: Callable[[relax.Expr], relax.Expr]) -> None:
    before = network(body, IMAGE)
    tvm.ir.assert_structural_equal(fold_batch_norm(before), before)


def test_a_layer_with_another_reader_is_left_alone() -> None:
    builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType(IMAGE, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            shared = builder.emit(conv(x))
            result = builder.emit_output(op.add(op.multiply(shared, channels(6)), shared))
        builder.emit_func_output(result)
    before = builder.finalize()
    tvm.ir.assert_structural_equal(fold_batch_norm(before), before)
