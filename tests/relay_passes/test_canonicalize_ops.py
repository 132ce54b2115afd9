from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.canonicalize_ops import canonicalize_ops
from tests.relay_passes.network import const, network, operators

op, nn = relax.op, relax.op.nn


def number(value: float) -> relax.Expr:
    return relax.const(value, "float32")


IMAGE, ROW = (1, 4, 6, 6), (2, 8)


@pytest.mark.parametrize(
    ("body", "shape", "expected"),
    [
        pytest.param(lambda x: nn.relu(op.squeeze(x, [0])), IMAGE, ["reshape", "nn.relu"], id="squeeze"),
        pytest.param(lambda x: nn.relu(op.expand_dims(x, [0])), ROW, ["reshape", "nn.relu"], id="expand_dims"),
        pytest.param(lambda x: nn.relu(op.flatten(x)), ROW, ["reshape", "nn.relu"], id="flatten"),
        pytest.param(lambda x: nn.relu(op.reshape(op.reshape(x, (16,)), (4, 4))), ROW, ["reshape", "nn.relu"], id="two reshapes are one"),
        pytest.param(lambda x: nn.relu(op.reshape(op.reshape(x, (16,)), ROW)), ROW, ["nn.relu"], id="there and back is nothing"),
        pytest.param(lambda x: nn.relu(op.broadcast_to(x, ROW)), ROW, ["nn.relu"], id="broadcast to itself"),
        pytest.param(lambda x: nn.relu(op.strided_slice(x, [1], [0], [8])), ROW, ["nn.relu"], id="slice of everything"),
        pytest.param(lambda x: nn.relu(op.concat([x])), ROW, ["nn.relu"], id="concat of one"),
        pytest.param(lambda x: op.concat([op.concat([x, nn.relu(x)]), x]), ROW, ["nn.relu", "concat"], id="concat of concat"),
        pytest.param(lambda x: op.sum(op.stack([x, nn.relu(x)]), [0]), ROW, ["nn.relu", "add"], id="sum of a stack"),
        pytest.param(lambda x: op.max(op.stack([x, op.exp(x)]), [0]), ROW, ["exp", "maximum"], id="maximum of a stack"),
        pytest.param(lambda x: op.subtract(x, number(2)), ROW, ["add"], id="subtract a constant"),
        pytest.param(lambda x: op.divide(x, number(3)), ROW, ["multiply"], id="divide by a constant"),
        pytest.param(lambda x: nn.relu(op.add(x, number(0))), ROW, ["nn.relu"], id="add zero"),
        pytest.param(lambda x: nn.relu(op.multiply(x, const(8, low=1, high=1))), ROW, ["nn.relu"], id="multiply by ones"),
        pytest.param(lambda x: op.power(x, number(2)), ROW, ["multiply"], id="square"),
        pytest.param(lambda x: op.power(x, number(0.5)), ROW, ["sqrt"], id="square root"),
        pytest.param(lambda x: op.power(x, number(3)), ROW, ["multiply", "multiply"], id="cube"),
        pytest.param(lambda x: op.power(op.abs(x), number(0.75)), ROW, ["abs", "sqrt", "sqrt", "sqrt", "multiply"], id="three quarters"),
        pytest.param(lambda x: op.power(op.exp(x), number(-0.5)), ROW, ["exp", "sqrt", "divide"], id="reciprocal root"),
        pytest.param(lambda x: op.power(op.exp(x), number(-1)), ROW, ["exp", "divide"], id="reciprocal"),
        pytest.param(lambda x: nn.avg_pool2d(x, (3, 3), padding=1), IMAGE, ["nn.avg_pool2d", "multiply"], id="average, border not counted"),
        pytest.param(
            lambda x: nn.avg_pool2d(x, (3, 2), (2, 1), (2, 0, 0, 1), (1, 2)), IMAGE, ["nn.avg_pool2d", "multiply"], id="unequal borders"
        ),
        pytest.param(lambda x: op.minimum(op.maximum(x, number(0)), number(6)), ROW, ["clip"], id="clip from its halves"),
        pytest.param(lambda x: nn.relu6(nn.relu(x)), ROW, ["clip"], id="clip of relu"),
        pytest.param(lambda x: op.maximum(x, number(0)), ROW, ["nn.relu"], id="maximum with zero"),
        pytest.param(lambda x: op.exp(op.maximum(x, number(-np.inf))), ROW, ["exp"], id="maximum with minus infinity"),
        pytest.param(lambda x: nn.avg_pool2d(x, (6, 6)), IMAGE, ["mean"], id="average of the whole image"),
        pytest.param(lambda x: nn.adaptive_avg_pool2d(x, (1, 1)), IMAGE, ["mean"], id="adaptive average"),
        pytest.param(lambda x: op.add(op.broadcast_to(x, (3, 2, 8)), const(3, 2, 8)), ROW, ["add"], id="broadcast before add"),
    ],
)
def test_one_form_for(body: Callable[[relax.Expr], relax.Expr], shape: tuple[int, ...], expected: list[str]) -> None:
    assert operators(canonicalize_ops(network(body, shape))) == expected


def test_constant_goes_second() -> None:
    module = canonicalize_ops(network(lambda x: op.multiply(const(8), x), ROW))
    (binding,) = module["main"].body.blocks[0].bindings
    assert binding.value.args[0].same_as(module["main"].params[0])


def test_equal_elements_become_one_number() -> None:
    module = canonicalize_ops(network(lambda x: op.add(x, const(2, 8, low=3, high=3)), ROW))
    (binding,) = module["main"].body.blocks[0].bindings
    assert binding.value.args[1].value.shape == ()


def test_lookup_cannot_read_outside_its_table() -> None:
    module = canonicalize_ops(network(lambda ids: op.take(const(4, 2), ids, axis=0, mode="fast"), ((3,), "int64")))
    (binding,) = module["main"].body.blocks[0].bindings
    assert binding.value.attrs.mode == "clip"


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        pytest.param(lambda x: nn.conv1d(x, const(5, 4, 3), strides=2, padding=(1, 2)), (1, 4, 9), id="one dimension"),
        pytest.param(lambda x: nn.conv2d(x, const(5, 4, 3, 1), strides=(2, 1), padding=(1, 0, 2, 0)), (1, 4, 9, 1), id="a column"),
    ],
)
def test_convolutions_over_one_axis_become_rows(body: Callable[[relax.Expr], relax.Expr], shape: tuple[int, ...]) -> None:
    module = canonicalize_ops(network(body, shape))
    (conv,) = [b.value for b in module["main"].body.blocks[0].bindings if b.value.op.name == "relax.nn.conv2d"]
    assert [int(extent) for extent in conv.args[0].ty.shape] == [1, 4, 1, 9]
    assert [int(padding) for padding in conv.attrs.padding] == [0, 1, 0, 2]
    assert operators(module) == ["reshape", "reshape", "nn.conv2d", "reshape"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda x: op.divide(number(1), x), id="constant above the line"),
        pytest.param(lambda x: op.divide(x, number(1e-45)), id="a reciprocal that overflows"),
        pytest.param(lambda x: op.subtract(number(1), x), id="constant minus a tensor"),
        pytest.param(lambda x: op.add(x, number(0.5)), id="add of something"),
        pytest.param(lambda x: op.strided_slice(x, [1], [7], [-9], [-1]), id="slice that runs backwards"),
        pytest.param(lambda x: op.concat([op.concat([x, x], 0), op.concat([x, x], 0)], 1), id="concats of two axes"),
        pytest.param(lambda x: op.power(x, number(1.7)), id="power that is no product of roots"),
        pytest.param(lambda x: op.minimum(nn.relu(x), const(8)), id="a limit for each column behind a relu"),
        pytest.param(lambda x: op.maximum(op.clip(x, 0, 1), op.exp(x)), id="a limit that is computed behind a clip"),
        pytest.param(lambda x: op.minimum(nn.relu(x), const(3, 2, 8, low=1, high=1)), id="a limit that broadcasts behind a relu"),
        pytest.param(lambda x: op.reshape(x, (4, 4)), id="reshape that changes the shape"),
    ],
)
def test_left_alone(body: Callable[[relax.Expr], relax.Expr]) -> None:
    before = network(body, ROW)
    tvm.ir.assert_structural_equal(canonicalize_ops(before), before)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda x: nn.avg_pool2d(x, (3, 3)), id="average of a part"),
        pytest.param(lambda x: nn.avg_pool2d(x, (6, 6), padding=1, strides=6, count_include_pad=True), id="average that counts its border"),
        pytest.param(lambda x: nn.avg_pool2d(x, (4, 4), padding=1, strides=3, ceil_mode=True), id="average rounded up"),
        pytest.param(lambda x: nn.conv2d(x, const(4, 4, 3, 1)), id="kernel of width one, image wider"),
    ],
)
def test_images_left_alone(body: Callable[[relax.Expr], relax.Expr]) -> None:
    before = network(body, IMAGE)
    tvm.ir.assert_structural_equal(canonicalize_ops(before), before)
