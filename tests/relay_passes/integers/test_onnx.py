"""Operators over integers in ONNX models, beside ONNX Runtime: quantised ones within one step, integer sums to the last bit."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stack
from stack.frontends.onnx import load
from tests.relay_passes.integers.host import Host

onnxruntime = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(11)
ONNX_RUNTIMES = "com.microsoft"


def values(dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max + 1, shape).astype(dtype)


def scale(value: Any) -> np.ndarray:
    return np.float32(value)


def zero(value: Any, dtype: str) -> np.ndarray:
    return np.array(value, dtype)


def one_node(op: str, given: list[np.ndarray], constants: list[np.ndarray | None], out: str, domain: str = "", **attributes: Any) -> bytes:
    """A model of one node whose inputs are `constants` in order, the model's own inputs where these are None."""
    names, weights, free = [], [], iter(range(len(given)))
    for index, value in enumerate(constants):
        names.append(f"x{next(free)}" if value is None else f"c{index}")
        if value is not None:
            weights.append(numpy_helper.from_array(value, names[-1]))
    node = helper.make_node(op, names, ["y"], name="node", domain=domain, **attributes)
    kinds = [helper.np_dtype_to_tensor_dtype(array.dtype) for array in given]
    inputs = [helper.make_tensor_value_info(f"x{i}", kind, array.shape) for i, (kind, array) in enumerate(zip(kinds, given, strict=True))]
    output = helper.make_tensor_value_info("y", getattr(TensorProto, out.upper()), None)
    graph = helper.make_graph([node], "one", inputs, [output], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ONNX_RUNTIMES, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def expected(data: bytes, given: list[np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(data)
    return session.run(None, {f"x{index}": array for index, array in enumerate(given)})[0]


def compiled(data: bytes, given: list[np.ndarray]) -> np.ndarray:
    """On x86, where islands are computed in floats."""
    library = stack.compile(onnx.load_from_string(data))
    return library.run({f"x{index}": array for index, array in enumerate(given)})["y"]


WEIGHTS = values("int8", 6, 4, 3, 3)
CONV = [scale(0.02), zero(120, "uint8"), WEIGHTS, scale(RNG.uniform(0.002, 0.01, 6)), zero([0] * 6, "int8"), scale(0.5), zero(100, "uint8")]
PAIR = [scale(0.03), zero(-20, "int8"), None, scale(0.05), zero(9, "int8"), scale(0.04), zero(3, "int8")]
QUANTISED = {
    "QLinearConv": ([values("uint8", 1, 4, 7, 6)], [None, *CONV, values("int32", 6) >> 20], "uint8", {"pads": [1, 1, 1, 1]}),
    "QLinearConv depthwise": (
        [values("int8", 1, 4, 7, 6)],
        [None, scale(0.02), zero(-7, "int8"), values("int8", 4, 1, 3, 3), scale(0.01), zero(0, "int8"), scale(0.1), zero(4, "int8")],
        "int8",
        {"group": 4, "strides": [2, 1]},
    ),
    "QLinearMatMul": (
        [values("int8", 3, 20)],
        [None, scale(0.02), zero(-7, "int8"), values("int8", 20, 5), scale(0.01), zero(0, "int8"), scale(0.1), zero(4, "int8")],
        "int8",
        {},
    ),
    "QLinearAdd": ([values("int8", 2, 30), values("int8", 2, 30)], [None, *PAIR], "int8", {}),
    "QLinearMul": ([values("int8", 2, 30), values("int8", 2, 30)], [None, *PAIR], "int8", {}),
    "QLinearGlobalAveragePool": (
        [values("int8", 1, 4, 7, 5)],
        [None, scale(0.05), zero(3, "int8"), scale(0.02), zero(-9, "int8")],
        "int8",
        {},
    ),
    "QLinearConcat": (
        [values("int8", 2, 3, 4), values("int8", 2, 5, 4)],
        [scale(0.05), zero(3, "int8"), None, scale(0.05), zero(3, "int8"), None, scale(0.06), zero(-9, "int8")],
        "int8",
        {"axis": 1},
    ),
}
MICROSOFT = ("QLinearAdd", "QLinearMul", "QLinearGlobalAveragePool", "QLinearConcat")


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_operators_are_integer_programs(name: str) -> None:
    given, constants, out, attributes = QUANTISED[name]
    op = name.split()[0]
    data = one_node(op, given, constants, out, ONNX_RUNTIMES if op in MICROSOFT else "", **attributes)
    want = expected(data, given)
    assert len(np.unique(want)) > min(10, want.size // 2)
    host = Host(load(onnx.load_from_string(data), {}).module)
    assert host.float_islands == []
    for got in (host.run(given)[0], compiled(data, given)):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        assert np.abs(got.astype(int) - want.astype(int)).max() <= 1


SUMS = {
    "MatMulInteger": ([values("uint8", 3, 700)], [None, values("int8", 700, 5), zero(128, "uint8"), zero(3, "int8")], {}),
    "MatMulInteger by column": ([values("uint8", 3, 20)], [None, values("int8", 20, 2), zero(7, "uint8"), zero([3, -5], "int8")], {}),
    "ConvInteger": ([values("uint8", 1, 2, 6, 5)], [None, values("uint8", 3, 2, 3, 3), zero(9, "uint8"), zero(77, "uint8")], {}),
    "ConvInteger of many channels": ([values("uint8", 1, 90, 5, 5)], [None, values("uint8", 3, 90, 3, 3)], {"pads": [1, 0, 1, 0]}),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_are_exact(name: str) -> None:
    given, constants, attributes = SUMS[name]
    data = one_node(name.split()[0], given, constants, "int32", **attributes)
    np.testing.assert_array_equal(compiled(data, given), expected(data, given))


def test_numbers_of_a_dynamic_range() -> None:
    x = helper.make_tensor_value_info("x0", TensorProto.FLOAT, (4, 30))
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x0"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (4, 30))
    graph = helper.make_graph(nodes, "dynamic", [x], [y])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    given = [RNG.standard_normal((4, 30)).astype("float32")]
    want = expected(data, given)
    np.testing.assert_allclose(compiled(data, given), want, atol=1.01 * (given[0].max() - given[0].min()) / 255)


def small_network() -> onnx.ModelProto:
    """Float operators that ONNX Runtime's quantiser knows: a strided layer, a depthwise one, a residual, two pools joined, dense."""
    names = iter(range(100))
    weights: dict[str, np.ndarray] = {"low": np.float32(0), "high": np.float32(6)}

    def weight(*shape: int) -> str:
        name = f"w{next(names)}"
        weights[name] = (RNG.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype("float32")
        return name

    make = helper.make_node
    nodes = [
        make("Conv", ["x", weight(8, 3, 3, 3), weight(8)], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        make("Relu", ["a"], ["b"]),
        make("Conv", ["b", weight(8, 1, 3, 3), weight(8)], ["c"], pads=[1, 1, 1, 1], group=8),
        make("Clip", ["c", "low", "high"], ["d"]),
        make("Conv", ["d", weight(8, 8, 1, 1)], ["e"]),
        make("Add", ["e", "b"], ["f"]),
        make("MaxPool", ["f"], ["g"], kernel_shape=[2, 2], strides=[2, 2]),
        make("AveragePool", ["f"], ["h"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Concat", ["g", "h"], ["i"], axis=1),
        make("GlobalAveragePool", ["i"], ["j"]),
        make("Flatten", ["j"], ["k"]),
        make("Gemm", ["k", weight(16, 10), weight(10)], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 12, 12))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 10))
    graph = helper.make_graph(nodes, "small", [x], [y], [numpy_helper.from_array(value, name) for name, value in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("kind", ["QUInt8", "QInt8"])
@pytest.mark.filterwarnings("ignore")  # of the quantiser's own
def test_networks_that_onnx_runtime_quantised(form: str, kind: str, tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Samples(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = 8

        def get_next(self) -> dict[str, np.ndarray] | None:
            self.left -= 1
            return {"x": RNG.standard_normal((1, 3, 12, 12)).astype("float32")} if self.left >= 0 else None

    onnx.save(small_network(), tmp_path / "float.onnx")
    quantization.quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "quantised.onnx",
        Samples(),
        quant_format=quantization.QuantFormat[form],
        activation_type=quantization.QuantType[kind],
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
    )
    model = onnx.load(tmp_path / "quantised.onnx")
    (step,) = [numpy_helper.to_array(item) for item in model.graph.initializer if item.name == "y_scale"]
    session, host = onnxruntime.InferenceSession(model.SerializeToString()), Host(load(model, {}).module)
    assert host.float_islands == []
    assert (host.calls[0], host.calls[-1]) == ("quantize", "dequantize_1" if "dequantize_1" in host.calls else "dequantize")
    for _ in range(4):
        x = RNG.standard_normal((1, 3, 12, 12)).astype("float32")
        want, got = session.run(None, {"x": x})[0], host.run([x])[0]
        assert np.ptp(want) > 20 * step
        assert np.abs(want - got).max() <= 3.01 * step  # a step in each of several layers
