from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.channels_first import channels_first
from relay_passes.fold_pad import fold_pad
from relay_passes.fold_transposes import fold_transposes
from tests.relay_passes.network import const, network, operators, random_inputs, run

op, nn = relax.op, relax.op.nn
IMAGE = (1, 6, 5, 4)
LAST = {"data_layout": "NHWC", "kernel_layout": "OHWI"}
Body = Callable[[relax.Expr], relax.Expr]


def same(before: tvm.IRModule, after: tvm.IRModule) -> None:
    inputs = random_inputs(before)
    for new, old in zip(run(after, inputs), run(before, inputs), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        pytest.param(lambda x: nn.avg_pool2d(x, (2, 3), (2, 1), (1, 0, 0, 1), layout="NHWC"), "nn.avg_pool2d", id="average"),
        pytest.param(lambda x: nn.max_pool2d(x, (2, 2), (2, 2), (0, 0, 1, 1), layout="NHWC"), "nn.max_pool2d", id="maximum"),
    ],
)
def test_pooling_is_done_on_channels_first(body: Body, name: str) -> None:
    before = network(body, IMAGE)
    after = channels_first(before)
    assert operators(after) == ["permute_dims", name, "permute_dims"]
    same(before, after)


def test_two_convolutions_have_nothing_between_them() -> None:
    def body(x: relax.Expr) -> relax.Expr:
        first = nn.relu(op.add(nn.conv2d(x, const(8, 3, 3, 4), padding=1, strides=(2, 1), **LAST), const(8)))
        return nn.conv2d(first, const(1, 3, 3, 8), groups=8, dilation=(1, 1), data_layout="NHWC", kernel_layout="IHWO")

    after = fold_transposes(channels_first(network(body, IMAGE)))
    names = operators(after)
    first, second = (place for place, name in enumerate(names) if name == "nn.conv2d")
    calls = [binding.value for binding in after["main"].body.blocks[0].bindings]
    images = [name for name, call in zip(names, calls, strict=True) if first <= names.index(name) and call.ty.shape[0] == 1]
    assert [calls[place].attrs.data_layout for place in (first, second)] == ["NCHW", "NCHW"]
    assert images[images.index("nn.conv2d") : images.index("nn.relu") + 1] == ["nn.conv2d", "add", "nn.relu"]
    assert calls[second].args[0].same_as(after["main"].body.blocks[0].bindings[names.index("nn.relu")].var)


def test_a_transposed_convolution_is_done_on_channels_first() -> None:
    after = channels_first(network(lambda x: nn.conv2d_transpose(x, const(3, 2, 2, 4), (2, 2), **LAST), IMAGE))
    assert operators(after) == ["permute_dims", "permute_dims", "nn.conv2d_transpose", "permute_dims"]
    inputs = random_inputs(after)
    x, weights = inputs[0], np.random.default_rng(0).uniform(-1, 1, (3, 2, 2, 4)).astype("f")
    want = np.einsum("nhwc,fabc->nhawbf", x, weights).reshape(1, 12, 10, 3)  # no two taps meet
    np.testing.assert_allclose(run(after, inputs)[0], want, rtol=1e-5, atol=1e-5)


def test_a_pad_meets_its_convolution() -> None:
    def body(x: relax.Expr) -> relax.Expr:
        return nn.conv2d(nn.pad(x, (0, 0, 1, 2, 0, 1, 0, 0)), const(8, 3, 3, 4), **LAST)

    before = network(body, IMAGE)
    after = fold_pad(channels_first(before))
    assert "nn.pad" not in operators(after)
    same(before, channels_first(before))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda x: nn.conv2d(x, const(8, 6, 3, 3)), id="channels first already"),
        pytest.param(lambda x: nn.max_pool2d(x, (2, 2)), id="pooling"),
        pytest.param(lambda x: op.permute_dims(nn.pad(x, (0, 0, 1, 1, 0, 0, 0, 0)), [1, 0, 2, 3]), id="another transpose"),
    ],
)
def test_leaves_the_rest_alone(body: Body) -> None:
    before = network(body, IMAGE)
    tvm.ir.assert_structural_equal(channels_first(before), before)
