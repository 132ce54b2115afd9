"""Operators over integers in ONNX models, beside ONNX Runtime: quantised ones within one step, integer sums to the last bit."""

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
