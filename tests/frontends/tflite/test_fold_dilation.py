"""Convolutions between moves into the batch and back become dilated ones, where nothing is lost."""

from typing import Any

import numpy as np
import pytest

import stack
from stack.frontends.tflite.fold_dilation import fold_dilation
from stack.frontends.tflite.read import read
from tests.frontends.tflite.build import C, T, micro, model, op

RNG = np.random.default_rng(0)
IMAGE, WEIGHTS = RNG.normal(size=(1, 6, 8, 3)).astype("f"), RNG.normal(size=(4, 3, 2, 3)).astype("f")


def dilated(
    convolution: str = "CONV_2D", weights: np.ndarray = WEIGHTS, *, crops: Any = ((0, 1), (0, 0)), more: str = "y", **options: Any
) -> bytes:
    """Blocks of 2 x 3 with a border around the image; `more` is an output beside the last."""
    filters, (kernel_h, kernel_w) = weights.shape[0 if convolution == "CONV_2D" else 3], weights.shape[1:3]
    height, width = (6 + 4) // 2 - kernel_h + 1, (8 + 1) // 3 - kernel_w + 1
    (top, bottom), (left, right) = crops
    shapes = {"s": (6, 5, 3, 3), "c": (6, height, width, filters), "y": (1, height * 2 - top - bottom, width * 3 - left - right, filters)}
    given = {"padding": "VALID", "stride_h": 1, "stride_w": 1} | ({} if convolution == "CONV_2D" else {"depth_multiplier": 1}) | options
    nodes = [
        op("SPACE_TO_BATCH_ND", ["x", "blocks", "pads"], ["s"]),
        op(convolution, ["s", "w"], ["c"], **given),
        op("BATCH_TO_SPACE_ND", ["c", "blocks", "crops"], ["y"]),
    ]
    numbers = {"blocks": [2, 3], "pads": [[1, 3], [1, 0]], "crops": crops}
    constants = [C("w", weights), *(C(name, np.array(value, np.int32)) for name, value in numbers.items())]
    outputs = ["y"] if more == "y" else ["y", more]
    return model([T("x", IMAGE.shape)], nodes, outputs, tensors=[T(name, shape) for name, shape in shapes.items()], constants=constants)


@pytest.mark.parametrize(("convolution", "weights"), [("CONV_2D", WEIGHTS), ("DEPTHWISE_CONV_2D", WEIGHTS[:1])])
def test_it_becomes_one_convolution(convolution: str, weights: np.ndarray) -> None:
    data = dilated(convolution, weights)
    (node,) = fold_dilation(read(data).main).nodes
    assert node.op == convolution
    assert (node.options["dilation_h_factor"], node.options["dilation_w_factor"]) == (2, 3)
    assert node.options["pads"] == (1, 1, 2, 0)
    (got,) = stack.compile(data, threads=1).run({"x": IMAGE}).values()
    (want,) = micro(data, [IMAGE])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(dilated(more="s"), id="others read what goes in"),
        pytest.param(dilated(more="c"), id="others read what comes out"),
        pytest.param(dilated(crops=((2, 0), (0, 0))), id="crops beyond the pads"),
        pytest.param(dilated(stride_h=2), id="strides"),
        pytest.param(dilated(dilation_w_factor=2), id="dilated already"),
        pytest.param(dilated(padding="SAME"), id="pads of its own"),
    ],
)
def test_leaves_the_rest_alone(data: bytes) -> None:
    graph = read(data).main
    assert fold_dilation(graph) is graph
