"""Each quantised operator, built as a TFLite model of its own, against TFLite Micro to the last bit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.frontends.tflite.build import C, T, model, op
from tests.relay_passes.integers.host import expect_same

RNG = np.random.default_rng(7)


def scale(low: float = 0.004, high: float = 0.4) -> float:
    return float(np.float32(RNG.uniform(low, high)))


def zero() -> int:
    return int(RNG.integers(-128, 128))


def weights(*shape: int, least: int = -127) -> np.ndarray:
    return RNG.integers(least, 128, shape).astype("int8")


def one_operator(
    name: str,
    x: tuple[int, ...],
    y: tuple[int, ...],
    constants: Sequence[T] = (),
    same: bool = False,
    inputs: int = 1,
    y_scale: float | None = None,
    **options: Any,
) -> tuple[bytes, list[tuple[tuple[int, ...], str]]]:
    """A network of one operator over `inputs` tensors of shape x, and what to run it with."""
    first_scale, first_zero = scale(), zero()
    others = [(first_scale, first_zero) if same else (scale(), zero()) for _ in range(inputs)]
    given = [T(f"x{index}", x, "int8", scale=item[0], zero_point=item[1]) for index, item in enumerate(others)]
    meaning = others[0] if same else (scale() if y_scale is None else y_scale, zero())
    result = T("y", y, "int8", scale=meaning[0], zero_point=meaning[1])
    names = [item.name for item in [*given, *constants]]
    data = model(inputs=given, constants=constants, tensors=[result], ops=[op(name, names, ["y"], **options)], outputs=["y"])
    return data, [(x, "int8")] * inputs


@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6", "RELU_N1_TO_1"])
@pytest.mark.parametrize(
    ("image", "kernel", "filters", "padding", "strides", "dilation"),
    [
        pytest.param((2, 5, 6, 3), (3, 3), 4, "SAME", (1, 1), (1, 1), id="3x3"),
        pytest.param((1, 9, 7, 2), (4, 3), 5, "SAME", (2, 2), (1, 1), id="strided"),
        pytest.param((1, 9, 8, 2), (3, 2), 3, "VALID", (1, 2), (2, 3), id="dilated"),
        pytest.param((1, 4, 3, 8), (1, 1), 6, "VALID", (1, 1), (1, 1), id="pointwise"),
    ],
)
def test_convolution(
    image: tuple[int, int, int, int],
    kernel: tuple[int, int],
    filters: int,
    padding: str,
    strides: tuple[int, int],
    dilation: tuple[int, int],
    activation: str,
) -> None:
    sizes = [
        -(-extent // stride) if padding == "SAME" else (extent - (taps - 1) * step - 1) // stride + 1
        for extent, taps, stride, step in zip(image[1:3], kernel, strides, dilation, strict=True)
    ]
    per_filter = np.float32(RNG.uniform(0.001, 0.02, filters))
    constants = [
        C("w", weights(filters, *kernel, image[3], least=-128), scale=per_filter, axis=0),
        C("b", RNG.integers(-3000, 3000, filters).astype("int32"), scale=per_filter),
    ]
    data, inputs = one_operator(
        "CONV_2D", image, (image[0], *sizes, filters), constants, padding=padding, stride_h=strides[0], stride_w=strides[1],
        dilation_h_factor=dilation[0], dilation_w_factor=dilation[1], fused_activation_function=activation,
    )  # fmt: skip
    expect_same(data, inputs)


@pytest.mark.parametrize(("channels", "multiplier", "padding", "stride"), [(4, 1, "SAME", 1), (3, 2, "SAME", 2), (1, 4, "VALID", 1)])
def test_depthwise(channels: int, multiplier: int, padding: str, stride: int) -> None:
    filters, size = channels * multiplier, -(-7 // stride) if padding == "SAME" else 5
    per_filter = np.float32(RNG.uniform(0.001, 0.05, filters))
    constants = [C("w", weights(1, 3, 3, filters), scale=per_filter, axis=3), C("b", RNG.integers(-900, 900, filters).astype("int32"), 1.0)]
    data, inputs = one_operator(
        "DEPTHWISE_CONV_2D", (1, 7, 7, channels), (1, size, size, filters), constants, padding=padding, stride_h=stride, stride_w=stride,
        depth_multiplier=multiplier, dilation_h_factor=1, dilation_w_factor=1, fused_activation_function="RELU",
    )  # fmt: skip
    expect_same(data, inputs)


def test_grouped_convolution() -> None:
    per_filter = np.float32(RNG.uniform(0.001, 0.05, 6))
    data, inputs = one_operator(
        "CONV_2D", (1, 5, 5, 4), (1, 5, 5, 6), [C("w", weights(6, 3, 3, 2), scale=per_filter, axis=0)], padding="SAME", stride_h=1,
        stride_w=1, dilation_h_factor=1, dilation_w_factor=1,
    )  # fmt: skip
    expect_same(data, inputs)


@pytest.mark.parametrize("per_filter", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_dense(per_filter: bool, bias: bool) -> None:
    for rows in (1, 3):
        scales = np.float32(RNG.uniform(0.002, 0.02, 7)) if per_filter else 0.0123
        constants = [C("w", weights(7, 20), scale=scales, axis=0)]
        x_scale = 0.07
        if bias:
            constants.append(C("b", RNG.integers(-3000, 3000, 7).astype("int32"), scale=np.float32(x_scale) * np.float32(scales)))
        given = T("x", (rows, 20), "int8", scale=x_scale, zero_point=zero())
        data = model(
            inputs=[given],
            constants=constants,
            tensors=[T("y", (rows, 7), "int8", scale=scale(0.05, 0.5), zero_point=zero())],
            ops=[op("FULLY_CONNECTED", ["x", *[item.name for item in constants]], ["y"])],
            outputs=["y"],
        )
        expect_same(data, [((rows, 20), "int8")])


@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("activation", ["NONE", "RELU"])
def test_arithmetic(name: str, activation: str) -> None:
    for _ in range(5):
        data, inputs = one_operator(name, (2, 3, 4, 5), (2, 3, 4, 5), inputs=2, fused_activation_function=activation)
        expect_same(data, inputs, runs=2)


@pytest.mark.parametrize("name", ["ADD", "MUL"])
def test_arithmetic_with_a_broadcast_constant(name: str) -> None:
    data, inputs = one_operator(name, (2, 3, 4, 5), (2, 3, 4, 5), [C("c", weights(5), scale=0.03, zero_point=4)])
    expect_same(data, inputs)


@pytest.mark.parametrize("name", ["MAXIMUM", "MINIMUM"])
def test_extremes_of_two(name: str) -> None:
    data, inputs = one_operator(name, (2, 5), (2, 5), inputs=2, same=True)
    expect_same(data, inputs)


@pytest.mark.parametrize("name", ["EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"])
@pytest.mark.parametrize("same", [False, True])
def test_comparisons(name: str, same: bool) -> None:
    given = [T("a", (4, 400), "int8", scale=0.02, zero_point=3), T("b", (4, 400), "int8", scale=0.02 if same else 0.04, zero_point=3)]
    data = model(inputs=given, tensors=[T("y", (4, 400), "bool")], ops=[op(name, ["a", "b"], ["y"])], outputs=["y"])
    expect_same(data, [((4, 400), "int8")] * 2)


@pytest.mark.parametrize("name", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize(("padding", "activation"), [("SAME", "NONE"), ("VALID", "NONE"), ("SAME", "RELU")])
def test_pooling(name: str, padding: str, activation: str) -> None:
    sizes = (4, 3) if padding == "SAME" else (3, 2)
    data, inputs = one_operator(
        name, (2, 7, 5, 3), (2, *sizes, 3), same=True, padding=padding, filter_height=3, filter_width=2, stride_h=2, stride_w=2,
        fused_activation_function=activation,
    )  # fmt: skip
    expect_same(data, inputs)


@pytest.mark.parametrize("name", ["MEAN", "SUM"])
@pytest.mark.parametrize(("axes", "keep"), [([1, 2], True), ([1, 2], False), ([3], False), ([1], True)])
def test_sums(name: str, axes: list[int], keep: bool) -> None:
    extents = (2, 4, 3, 5)
    left = tuple(1 if axis in axes else extent for axis, extent in enumerate(extents) if keep or axis not in axes)
    data, inputs = one_operator(name, extents, left, [C("axes", np.array(axes, "int32"))], keep_dims=keep, y_scale=0.3)
    expect_same(data, inputs)


@pytest.mark.parametrize("name", ["REDUCE_MAX", "REDUCE_MIN"])
def test_extremes_along_axes(name: str) -> None:
    data, inputs = one_operator(name, (2, 4, 3), (2, 3), [C("axes", np.array([1], "int32"))], same=True, keep_dims=False)
    expect_same(data, inputs)


@pytest.mark.parametrize(("target", "y_scale"), [("int8", 1 / 256), ("int16", 1 / 65536), ("int16", 1 / 65535)])
@pytest.mark.parametrize("depth", [2, 10, 200])
def test_softmax(depth: int, target: str, y_scale: float) -> None:
    for x_scale, beta in ((0.003, 1.0), (0.1, 1.0), (0.9, 1.0), (0.05, 2.5)):
        data = model(
            inputs=[T("x", (3, depth), "int8", scale=x_scale, zero_point=zero())],
            tensors=[T("y", (3, depth), target, scale=y_scale, zero_point=int(np.iinfo(target).min))],
            ops=[op("SOFTMAX", ["x"], ["y"], beta=beta)],
            outputs=["y"],
        )
        expect_same(data, [((3, depth), "int8")])


KINDS = [("int8", "int8"), ("int8", "int16"), ("int16", "int8"), ("float32", "int8"), ("int8", "int32"), ("int16", "int32")]


@pytest.mark.parametrize(("source", "target"), KINDS)
def test_requantize(source: str, target: str) -> None:
    quantized = {"scale": 0.037, "zero_point": 5 if source == "int8" else 0} if source != "float32" else {}
    data = model(
        inputs=[T("x", (3, 50), source, **quantized)],
        tensors=[T("y", (3, 50), target, scale=1.1e-6 if target == "int32" else 0.021, zero_point=-9 if target == "int8" else 0)],
        ops=[op("QUANTIZE", ["x"], ["y"])],
        outputs=["y"],
    )
    expect_same(data, [((3, 50), source)])


def test_dequantize() -> None:
    data = model(
        inputs=[T("x", (3, 50), "int8", scale=0.037, zero_point=5)],
        tensors=[T("y", (3, 50))],
        ops=[op("DEQUANTIZE", ["x"], ["y"])],
        outputs=["y"],
    )
    expect_same(data, [((3, 50), "int8")])


@pytest.mark.parametrize(("name", "same"), [("RELU", True), ("RELU", False), ("RELU6", True)])
def test_activations_alone(name: str, same: bool) -> None:
    for _ in range(3):
        data, inputs = one_operator(name, (3, 60), (3, 60), same=same)
        expect_same(data, inputs, runs=2)


@pytest.mark.parametrize("slope", [0.3, -0.2, 1.7])
def test_leaky_relu_of_int16(slope: float) -> None:
    for _ in range(3):
        given, result = (T(name, (5, 800), "int16", scale=scale(1e-5, 1e-4)) for name in "xy")
        data = model(inputs=[given], tensors=[result], ops=[op("LEAKY_RELU", ["x"], ["y"], alpha=slope)], outputs=["y"])
        expect_same(data, [((5, 800), "int16")])


@pytest.mark.parametrize(("mode", "out"), [({}, (7, 9)), ({"align_corners": True}, (8, 3)), ({"half_pixel_centers": True}, (9, 4))])
def test_bilinear_resize(mode: dict[str, bool], out: tuple[int, int]) -> None:
    data, inputs = one_operator("RESIZE_BILINEAR", (1, 4, 5, 3), (1, *out, 3), [C("size", np.array(out, "int32"))], same=True, **mode)
    expect_same(data, inputs)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize(("padding", "bias"), [("SAME", False), ("VALID", True)])
def test_transposed_convolution(padding: str, bias: bool, dtype: str) -> None:
    out = (1, 8, 10, 3) if padding == "SAME" else (1, 9, 11, 3)
    per_filter = np.float32(RNG.uniform(0.001, 0.05, 3))
    constants = [C("shape", np.array(out, "int32")), C("w", weights(3, 3, 3, 2), scale=per_filter, axis=0)]
    if bias:
        constants.append(C("b", RNG.integers(-900, 900, 3).astype("int32" if dtype == "int8" else "int64"), scale=per_filter))
    zeros = [zero(), zero()] if dtype == "int8" else [0, 0]
    given = T("x", (1, 4, 5, 2), dtype, scale=scale(), zero_point=zeros[0])
    data = model(
        inputs=[given],
        constants=constants,
        tensors=[T("y", out, dtype, scale=scale(), zero_point=zeros[1])],
        ops=[op("TRANSPOSE_CONV", ["shape", "w", "x", *(["b"] if bias else [])], ["y"], padding=padding, stride_h=2, stride_w=2)],
        outputs=["y"],
    )
    expect_same(data, [((1, 4, 5, 2), dtype)])


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_pad_before_a_convolution_needs_no_copy(depthwise: bool) -> None:
    meaning = {"scale": 0.05, "zero_point": -11}
    filters = C("w", weights(1, 3, 3, 3) if depthwise else weights(4, 3, 3, 3), scale=0.01)
    out = (1, 4, 3, 3 if depthwise else 4)
    name, more = ("DEPTHWISE_CONV_2D", {"depth_multiplier": 1}) if depthwise else ("CONV_2D", {})
    data = model(
        inputs=[T("x", (1, 7, 6, 3), "int8", **meaning)],
        constants=[C("widths", np.array([[0, 0], [0, 2], [1, 0], [0, 0]], "int32")), filters],
        tensors=[T("p", (1, 9, 7, 3), "int8", **meaning), T("y", out, "int8", scale=0.1, zero_point=3)],
        ops=[
            op("PAD", ["x", "widths"], ["p"]),
            op(name, ["p", "w"], ["y"], padding="VALID", stride_h=2, stride_w=2, dilation_h_factor=1, dilation_w_factor=1, **more),
        ],
        outputs=["y"],
    )
    assert expect_same(data, [((1, 7, 6, 3), "int8")]).calls == ["depthwise" if depthwise else "conv2d"]


def test_results_finer_than_their_sums() -> None:
    """Shifts to the left, which no trained layer has."""
    constants = [C("w", weights(6, 3), scale=0.9)]
    data, inputs = one_operator("FULLY_CONNECTED", (5, 3), (5, 6), constants, y_scale=0.0008)
    expect_same(data, inputs)


@pytest.mark.parametrize("shape", [(5,), (1, 1, 5), (3, 4, 5)])
def test_slopes_of_their_own(shape: tuple[int, ...]) -> None:
    data, inputs = one_operator("PRELU", (2, 3, 4, 5), (2, 3, 4, 5), [C("slope", weights(*shape), scale=0.011, zero_point=7)])
    assert expect_same(data, inputs).calls == ["prelu"]


@pytest.mark.parametrize("shape", [(1,), (4, 1), (2, 3, 4, 5)], ids=["one", "broadcast", "each"])
def test_squared_differences(shape: tuple[int, ...]) -> None:
    other = C("b", weights(*shape), scale=0.0137, zero_point=-9)
    for order in (["x", "b"], ["b", "x"]):
        y = T("y", (2, 3, 4, 5), "int8", scale=0.041, zero_point=-128)
        x = T("x", (2, 3, 4, 5), "int8", scale=0.031, zero_point=-37)
        data = model([x], [op("SQUARED_DIFFERENCE", order, ["y"])], ["y"], tensors=[y], constants=[other])
        assert expect_same(data, [(x.shape, "int8")]).calls == ["squared_difference"]


def test_squared_differences_of_two_tensors() -> None:
    tensors = [T("a", (1, 9, 300), "int8", scale=0.02, zero_point=4), T("b", (300,), "int8", scale=0.05, zero_point=-60)]
    y = T("y", (1, 9, 300), "int8", scale=0.2, zero_point=-100)
    data = model(tensors, [op("SQUARED_DIFFERENCE", ["a", "b"], ["y"])], ["y"], tensors=[y])
    assert expect_same(data, [(tensor.shape, "int8") for tensor in tensors]).calls == ["squared_difference"]


def test_factors_have_the_precision_of_float64() -> None:
    """Sums so close to a tie that the product of two scales in float32 would round the other way."""
    x_scale, w_scale, y_scale = (np.float32(value) for value in (0.00051, 0.00037, 1.7))
    exact = np.float64(x_scale) * np.float64(w_scale) / np.float64(y_scale)
    bias = np.round((np.arange(-100, 100) + 0.5) / exact).astype("int32")
    data = model(
        inputs=[T("x", (1, 1), "int8", scale=x_scale)],
        constants=[C("w", np.ones((200, 1), "int8"), scale=w_scale), C("b", bias, scale=x_scale * w_scale)],
        tensors=[T("y", (1, 200), "int8", scale=y_scale)],
        ops=[op("FULLY_CONNECTED", ["x", "w", "b"], ["y"])],
        outputs=["y"],
    )
    expect_same(data, [((1, 1), "int8")])


@pytest.mark.parametrize(("name", "ratio"), [("RELU", 5.0), ("SUB", 3.0), ("SUB", 5.0)])
def test_ties_of_equal_scales_go_the_same_way(name: str, ratio: float) -> None:
    count = 1 if name == "RELU" else 2
    for x_scale in np.float32([0.0613, 0.0371, 0.0923]):
        given = [T(f"x{index}", (1, 4000), "int8", scale=x_scale * np.float32(1 + 2 * index)) for index in range(count)]
        result = T("y", (1, 4000), "int8", scale=np.float32(x_scale * np.float32(2)) / np.float32(ratio))
        data = model(inputs=given, tensors=[result], ops=[op(name, [item.name for item in given], ["y"])], outputs=["y"])
        expect_same(data, [((1, 4000), "int8")] * count, runs=2)
