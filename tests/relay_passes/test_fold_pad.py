from collections.abc import Callable

import pytest
import tvm
from tvm import relax

from relay_passes.fold_pad import fold_pad
from tests.relay_passes.network import const, network, operators

op, nn = relax.op, relax.op.nn
IMAGE = (1, 3, 8, 8)


def test_pad_moves_into_convolution_and_adds_up() -> None:
    before = network(lambda x: nn.conv2d(nn.pad(x, (0, 0, 0, 0, 1, 3, 2, 4)), const(4, 3, 3, 3), strides=(2, 1), padding=1), IMAGE)
    after = network(lambda x: nn.conv2d(x, const(4, 3, 3, 3), strides=(2, 1), padding=(2, 3, 4, 5)), IMAGE)
    tvm.ir.assert_structural_equal(fold_pad(before), after)


def test_pad_moves_into_average_and_counts() -> None:
    before = network(lambda x: nn.avg_pool2d(nn.pad(x, (0, 0, 0, 0, 1, 0, 1, 0)), (3, 3), strides=2), IMAGE)
    after = network(lambda x: nn.avg_pool2d(x, (3, 3), strides=2, padding=(1, 1, 0, 0), count_include_pad=True), IMAGE)
    tvm.ir.assert_structural_equal(fold_pad(before), after)


def test_pad_moves_through_a_reshape_of_unit_axes() -> None:
    def padded(x: relax.Expr) -> relax.Expr:
        return nn.conv2d(op.reshape(nn.pad(x, (0, 0, 0, 0, 4, 2)), (1, 1, 1, 26)), const(4, 1, 1, 5))

    module = fold_pad(network(padded, (1, 1, 20)))
    assert operators(module) == ["reshape", "nn.conv2d"]
    assert [int(p) for p in module["main"].body.blocks[0].bindings[-1].value.attrs.padding] == [0, 4, 0, 2]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda x: nn.conv2d(nn.pad(x, (0, 0, 0, 0, 1, 1, 1, 1), "constant", 1.0), const(4, 3, 3, 3)), id="pads with ones"),
        pytest.param(lambda x: nn.conv2d(nn.pad(x, (0, 0, 0, 0, 1, 1, 1, 1), "reflect"), const(4, 3, 3, 3)), id="reflects"),
        pytest.param(lambda x: nn.conv2d(nn.pad(x, (0, 0, 1, 0, 0, 0, 0, 0)), const(4, 4, 3, 3)), id="pads the channels"),
        pytest.param(lambda x: nn.max_pool2d(nn.pad(x, (0, 0, 0, 0, 1, 1, 1, 1)), (3, 3)), id="maximum would ignore its border"),
        pytest.param(
            lambda x: nn.avg_pool2d(nn.pad(x, (0, 0, 0, 0, 1, 1, 1, 1)), (3, 3), padding=1), id="average that does not count its border"
        ),
        pytest.param(
            lambda x: nn.conv2d(op.reshape(nn.pad(x, (0, 0, 0, 0, 0, 0, 1, 1)), (1, 3, 10, 8)), const(4, 3, 3, 3)),
            id="reshape that mixes axes",
        ),
    ],
)
def test_left_alone(body: Callable[[relax.Expr], relax.Expr]) -> None:
    before = network(body, IMAGE)
    tvm.ir.assert_structural_equal(fold_pad(before), before)
