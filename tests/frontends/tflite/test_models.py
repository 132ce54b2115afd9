"""Real networks on x86 compute what TFLite Micro computes, and layers that need real data are held against numpy."""

from typing import Any

import numpy as np
import pytest

import stack
from stack import knobs
from stack.frontends.model import Quantization
from stack.frontends.tflite import load
from tests.frontends.tflite.build import C, T, micro, model, op

MODELS = knobs.models() / "mlperf_tiny"
UNIT = {"stride_h": 1, "stride_w": 1}


def network(name: str) -> bytes:
    file = MODELS / f"{name}.tflite"
    if not file.exists():
        pytest.skip(f"{file} is not there")
    return file.read_bytes()


def random_input(data: bytes) -> tuple[str, np.ndarray]:
    found = load(data, {})
    (param,) = found.module["main"].params
    shape, dtype = tuple(int(extent) for extent in param.ty.shape), str(param.ty.dtype.dtype)
    rng = np.random.default_rng(0)
    array = rng.integers(-128, 128, shape) if dtype == "int8" else rng.standard_normal(shape)
    return found.input_names[0], array.astype(dtype)


@pytest.mark.parametrize(
    ("name", "apart"), [("ic_float", 1e-5), ("vww_float", 1e-5), ("ad_int8", 2), ("kws_int8", 3), ("hello_world_int8", 1)]
)
def test_a_network_computes_what_tflite_micro_computes(name: str, apart: float) -> None:
    data = network(name)
    key, array = random_input(data)
    (want,) = micro(data, [array])
    (got,) = stack.compile(data, threads=2).run({key: array}).values()
    assert got.dtype == want.dtype
    assert np.abs(got.astype(np.float64) - want.astype(np.float64)).max() <= apart
    assert np.unique(want).size > 1 or want.size == 1


def test_a_batch_is_what_the_user_asks_for() -> None:
    """The file has a batch of one, marked as open, and a reshape by a shape that is computed."""
    nodes = [
        op("SHAPE", ["x"], ["s"], out_type="INT32"),
        op("STRIDED_SLICE", ["s", "zero", "one", "one"], ["n"], shrink_axis_mask=1),
        op("PACK", ["n", "rest"], ["t"], values_count=2),
        op("RESHAPE", ["x", "t"], ["y"]),
    ]
    tensors = [T("s", (3,), "int32"), T("n", (), "int32"), T("t", (2,), "int32"), T("y", (1, 6), signature=(-1, 6))]
    constants = [C(name, np.array(value, np.int32)) for name, value in (("zero", [0]), ("one", [1]), ("rest", 6))]
    data = model([T("x", (1, 2, 3), signature=(-1, 2, 3))], nodes, ["y"], tensors=tensors, constants=constants)
    for batch in (1, 4):
        array = np.arange(batch * 6, dtype=np.float32).reshape(batch, 2, 3)
        shapes = {"x": array.shape} if batch > 1 else {}
        (got,) = stack.compile(data, shapes=shapes, threads=1).run({"x": array}).values()
        np.testing.assert_array_equal(got, array.reshape(batch, 6))


def test_inputs_and_outputs_say_what_their_integers_mean() -> None:
    x, y = T("x", (1, 4), "int8", 0.5, 3), T("y", (1, 4))
    found = load(model([x], [op("DEQUANTIZE", ["x"], ["y"])], ["y"], tensors=[y]), {})
    assert found.quantization == {"x": Quantization(0.5, 3)}


def test_weights_of_float16_are_widened() -> None:
    weights = np.arange(8, dtype=np.float16).reshape(2, 4) / 7
    nodes = [op("DEQUANTIZE", ["h"], ["w"]), op("FULLY_CONNECTED", ["x", "w", None], ["y"])]
    data = model([T("x", (1, 4))], nodes, ["y"], tensors=[T("w", (2, 4)), T("y", (1, 2))], constants=[C("h", weights)])
    array = np.ones((1, 4), np.float32)
    (got,) = stack.compile(data, threads=1).run({"x": array}).values()
    np.testing.assert_allclose(got, array @ weights.astype(np.float32).T, rtol=1e-6)


def test_int4_weights_count_as_int8() -> None:
    rng = np.random.default_rng(3)
    weights, x = rng.integers(-7, 8, (6, 8)).astype(np.int8), rng.integers(-128, 128, (2, 8)).astype(np.int8)
    tensors = [T("y", (2, 6), "int8", 1.5, -4)]
    data = model(
        [T("x", (2, 8), "int8", 0.1, 5)],
        [op("FULLY_CONNECTED", ["x", "w", None], ["y"])],
        ["y"],
        tensors=tensors,
        constants=[C("w", weights, 0.3, dtype="int4")],
    )
    (got,) = stack.compile(data, threads=1).run({"x": x}).values()
    (want,) = micro(data, [x])
    assert np.abs(got.astype(int) - want.astype(int)).max() <= 1
    assert np.unique(want).size > 4


def sixteen(op_name: str, x: np.ndarray, y: tuple[int, ...], scale: float, *constants: T, **options: Any) -> None:
    """One operator over int16 activations, beside TFLite Micro."""
    names = ["x", *(item.name for item in constants)]
    tensors = [T("y", y, "int16", scale)]
    data = model([T("x", x.shape, "int16", 2.0**-12)], [op(op_name, names, ["y"], **options)], ["y"], tensors=tensors, constants=constants)
    (got,) = stack.compile(data, threads=1).run({"x": x}).values()
    (want,) = micro(data, [x])
    assert np.abs(got.astype(int) - want.astype(int)).max() <= 8, op_name
    assert np.unique(want).size > 4


def test_int16_activations() -> None:
    rng = np.random.default_rng(4)
    image = rng.integers(-32768, 32768, (1, 4, 4, 3)).astype(np.int16)
    weights, bias = rng.integers(-127, 128, (2, 3, 3, 3)).astype(np.int8), rng.integers(-9999, 9999, 2)
    kernel, scales = C("w", weights, [0.01, 0.02], axis=0), [0.01 * 2.0**-12, 0.02 * 2.0**-12]
    sixteen("CONV_2D", image, (1, 4, 4, 2), 2.0**-8, kernel, C("b", bias, scales), padding="SAME", **UNIT)
    dense = C("w", rng.integers(-127, 128, (5, 3)).astype(np.int8), 0.01)
    sixteen("FULLY_CONNECTED", image.reshape(16, 3), (16, 5), 2.0**-10, dense, C("b", rng.integers(-9999, 9999, 5), 0.01 * 2.0**-12))
    sixteen("LOGISTIC", image, image.shape, 2.0**-15)
    sixteen("TANH", image, image.shape, 2.0**-15)
    sixteen("LEAKY_RELU", image, image.shape, 2.0**-12, alpha=0.3)


def rounded(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """As TFLite quantises at run time, asymmetrically."""
    low, high = (np.minimum(x.min(axes, keepdims=True), 0), np.maximum(x.max(axes, keepdims=True), 0))
    scale = (high - low) / 255
    zero = np.round(-128 - low / scale)
    return (np.clip(np.round(x / scale + zero), -128, 127) - zero) * scale


def test_hybrid_layers_round_their_activations() -> None:
    rng = np.random.default_rng(5)
    x, weights = rng.normal(size=(2, 1, 1, 8)).astype("f"), rng.integers(-127, 128, (3, 1, 1, 8)).astype(np.int8)
    scales = np.array([0.1, 0.2, 0.3], np.float32)
    real = (weights * scales[:, None, None, None]).reshape(3, 8)
    data = model(
        [T("x", x.shape)], [op("CONV_2D", ["x", "w"], ["y"], padding="VALID", **UNIT)], ["y"],
        tensors=[T("y", (2, 1, 1, 3))], constants=[C("w", weights, scales.tolist(), axis=0)],
    )  # fmt: skip
    (got,) = stack.compile(data, threads=1).run({"x": x}).values()
    np.testing.assert_allclose(got.reshape(2, 3), rounded(x.reshape(2, 8), (1,)) @ real.T, rtol=1e-4, atol=1e-4)
    assert np.abs(got.reshape(2, 3) - x.reshape(2, 8) @ real.T).max() > 1e-2, "nothing was rounded"


@pytest.mark.parametrize("asymmetric", [False, True])
def test_hybrid_dense_layers_are_symmetric_unless_they_say_otherwise(asymmetric: bool) -> None:
    rng = np.random.default_rng(6)
    x, weights = rng.normal(size=(3, 8)).astype("f") + 1, rng.integers(-127, 128, (4, 8)).astype(np.int8)
    x[1] = 0  # a row without a scale
    span = np.abs(x).max(1, keepdims=True)
    symmetric = np.round(x / np.where(span == 0, 1, span / 127)) * span / 127
    want = (np.where(span == 0, 0, rounded(np.where(span == 0, 1, x), (1,))) if asymmetric else symmetric) @ (weights * 0.05).T
    data = model(
        [T("x", (3, 8))], [op("FULLY_CONNECTED", ["x", "w", None], ["y"], asymmetric_quantize_inputs=asymmetric)], ["y"],
        tensors=[T("y", (3, 4))], constants=[C("w", weights, 0.05)],
    )  # fmt: skip
    (got,) = stack.compile(data, threads=1).run({"x": x}).values()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_the_hybrid_network_compiles() -> None:
    """TFLite Micro has no hybrid kernels, so only its form is checked."""
    data = network("kws_float")
    key, array = random_input(data)
    (got,) = stack.compile(data, threads=2).run({key: array}).values()
    np.testing.assert_allclose(got.sum(), 1, rtol=1e-5)
