from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.flatten_conv3d import flatten_conv3d
from tests.relay_passes.network import const, network, operators, random_inputs, run

op, nn = relax.op, relax.op.nn
CLIP = (2, 4, 5, 6, 7)
Body = Callable[[relax.Expr], relax.Expr]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda x: nn.conv3d(x, const(6, 4, 3, 3, 3), padding=1), id="cube"),
        pytest.param(lambda x: nn.conv3d(x, const(6, 4, 1, 3, 3), padding=(0, 1, 1)), id="taps in space alone"),
        pytest.param(lambda x: nn.conv3d(x, const(6, 4, 3, 1, 1), strides=(2, 1, 1), padding=(1, 0, 0, 2, 0, 0)), id="taps in time alone"),
        pytest.param(lambda x: nn.conv3d(x, const(6, 4, 2, 2, 3), strides=(1, 2, 1), dilation=(2, 1, 2)), id="dilated"),
        pytest.param(lambda x: nn.conv3d(x, const(6, 2, 3, 2, 2), groups=2), id="groups"),
        pytest.param(lambda x: nn.conv3d_transpose(x, const(4, 3, 2, 2, 2), strides=(2, 2, 2)), id="transposed"),
        pytest.param(
            lambda x: nn.conv3d_transpose(x, const(4, 3, 3, 4, 3), strides=(1, 2, 3), padding=(1, 1, 0), output_padding=(0, 1, 2)),
            id="transposed, axes that differ",
        ),
    ],
)
def test_becomes_a_convolution_of_images(body: Body) -> None:
    before = network(body, CLIP)
    after = flatten_conv3d(before)
    assert not {"nn.conv3d", "nn.conv3d_transpose"} & set(operators(after))
    assert operators(after).count("nn.conv2d") == 1
    inputs = random_inputs(before)
    for new, old in zip(run(after, inputs), run(before, inputs), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)


def test_leaves_integers_alone() -> None:
    before = network(lambda x, w: nn.conv3d(x, w), ((1, 2, 3, 3, 3), "int32"), ((2, 2, 2, 2, 2), "int32"))
    tvm.ir.assert_structural_equal(flatten_conv3d(before), before)
