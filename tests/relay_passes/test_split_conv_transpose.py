from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.split_conv_transpose import split_conv_transpose
from tests.relay_passes.network import const, network, operators, random_inputs, run

op, nn = relax.op, relax.op.nn
IMAGE = (2, 4, 5, 6)
Body = Callable[[relax.Expr], relax.Expr]


def check(body: Body, *shape: int) -> list[str]:
    """The operators after the pass, which must not change the numbers."""
    before = network(body, shape)
    after = split_conv_transpose(before)
    inputs = random_inputs(before)
    for new, old in zip(run(after, inputs), run(before, inputs), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)
    return operators(after)


@pytest.mark.parametrize(
    ("taps", "attrs"),
    [
        pytest.param((2, 2), dict(strides=2), id="taps that do not overlap"),
        pytest.param((4, 4), dict(strides=2, padding=1), id="taps that overlap, cropped"),
        pytest.param((3, 3), dict(strides=2, padding=1, output_padding=1), id="phases of two taps and of one, and a row more"),
        pytest.param((3, 2), dict(strides=(3, 1), padding=(0, 1, 0, 0)), id="unequal axes"),
        pytest.param((3, 3), dict(strides=1, padding=2), id="stride of one"),
        pytest.param((3, 3), dict(strides=2, dilation=2, padding=1), id="dilated"),
        pytest.param((2, 2), dict(strides=3, output_padding=2), id="rows that no tap reaches"),
    ],
)
def test_phases_become_one_convolution(taps: tuple[int, int], attrs: dict[str, object]) -> None:
    found = check(lambda x: nn.conv2d_transpose(x, const(4, 3, *taps), **attrs), *IMAGE)
    assert "nn.conv2d_transpose" not in found
    assert found[0] == "nn.conv2d"


def test_groups_keep_their_filters_together() -> None:
    found = check(lambda x: nn.conv2d_transpose(x, const(4, 3, 3, 3), strides=2, groups=2), *IMAGE)
    assert found[0] == "nn.conv2d"


def test_one_pixel_becomes_a_product() -> None:
    found = check(lambda x: nn.conv2d_transpose(x, const(4, 3, 4, 4), padding=1), 2, 4, 1, 1)
    assert found == ["reshape", "matmul", "reshape", "strided_slice"]


def test_one_axis() -> None:
    found = check(lambda x: nn.conv1d_transpose(x, const(4, 3, 5), strides=2, padding=1), 2, 4, 7)
    assert found[:2] == ["reshape", "nn.conv2d"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda x: nn.conv2d_transpose(x, op.exp(const(4, 3, 2, 2))), id="weights that are computed"),
        pytest.param(lambda x: nn.conv2d_transpose(x, const(4, 3, 1, 1), padding=1), id="padding beyond the taps"),
    ],
)
def test_left_alone(body: Body) -> None:
    before = network(body, IMAGE)
    tvm.ir.assert_structural_equal(split_conv_transpose(before), before)
