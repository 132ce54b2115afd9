"""Quantised ONNX networks over bytes: the same as ONNX Runtime to the last bit, on a machine with dot products of bytes and one without."""

from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from onnx import helper, numpy_helper
from tvm import relax, tirx

import stack
from relay_passes.choices import Choices
from relay_passes.pipeline import cpu_passes
from schedules.machine import Machine
from stack.frontends.load import load
from targets.registry import find

onnxruntime = pytest.importorskip("onnxruntime")

VNNI = Machine(vector_bytes=64, vector_registers=32, int8_dot=True)
IR, OPSET = 9, 17


class Writer:
    """A QDQ model that grows; activations are of one type."""

    def __init__(self, kind: str, seed: int = 0) -> None:
        self.rng, self.kind = np.random.default_rng(seed), kind
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any, dtype: str) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), f"c{len(self.weights)}"))
        return self.weights[-1].name

    def qdq(self, x: str, scale: float, zero: int) -> str:
        """Through bytes and back; `zero` as of unsigned ones."""
        parameters = self.constant(scale, "float32"), self.constant(zero - (128 if self.kind == "int8" else 0), self.kind)
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, *parameters), *parameters)

    def filters(self, *shape: int, axis: int = 0, kind: str = "int8", zero: int = 0) -> tuple[str, np.ndarray]:
        info = np.iinfo(kind)
        scale = self.rng.uniform(0.5, 1.5, shape[axis]) / (74 * np.sqrt(np.prod(shape) / shape[axis]))
        value = self.rng.integers(info.min, info.max + 1, shape)
        scale = scale if not zero else scale[:1]
        names = self.constant(value, kind), self.constant(scale if not zero else scale[0], "float32")
        zeros = self.constant(np.full(np.shape(scale) if not zero else (), zero), kind)
        return self.node("DequantizeLinear", *names, zeros, **({} if zero else {"axis": axis})), scale

    def conv(
        self, x: str, x_scale: float, shape: tuple[int, ...], bias: bool = True, kind: str = "int8", zero: int = 0, **attrs: Any
    ) -> str:
        w, scale = self.filters(*shape, kind=kind, zero=zero)
        inputs = [x, w]
        if bias:
            unit = (np.float32(x_scale) * np.float32(scale)).astype("float32")
            unit = np.broadcast_to(unit, (shape[0],))
            value = self.constant(self.rng.normal(0, 2000, shape[0]).round(), "int32")
            zeros = self.constant(np.zeros(shape[0]), "int32")
            inputs.append(self.node("DequantizeLinear", value, self.constant(unit, "float32"), zeros, axis=0))
        return self.node("Conv", *inputs, **attrs)

    def model(self, x: tuple[int, ...], output: str) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [output], ["y"]))
        graph = helper.make_graph(
            self.nodes,
            "bytes",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x)],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


def reference(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    result: np.ndarray = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0]
    return result


def draw(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def programs(model: onnx.ModelProto, machine: Machine = VNNI) -> list[str]:
    module: tvm.IRModule = load(model, {}).module
    for graph_pass in cpu_passes(machine, Choices()):
        module = graph_pass(module)
    return [variable.name_hint for variable, function in module.functions.items() if isinstance(function, tirx.PrimFunc)]


def expect_same(model: onnx.ModelProto, shape: tuple[int, ...], steps: float = 0.0, scale: float = 1.0) -> None:
    x = draw(shape)
    want = reference(model, x)
    got = stack.compile(model, "x86", threads=1).run({"x": x})["y"]
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= steps * scale + 1e-6, np.abs(got - want).max() / scale
    assert np.unique(want).size > 3


CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 3, 13, 11), (20, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ((2, 16, 7, 5), (32, 16, 1, 1), {}),
    ((1, 9, 8, 8), (7, 9, 3, 1), {"pads": [0, 1, 2, 1], "dilations": [2, 1]}),
    ((1, 18, 9, 9), (18, 1, 3, 3), {"pads": [1, 1, 1, 1], "group": 18}),
    ((1, 8, 6, 6), (12, 4, 3, 3), {"group": 2, "pads": [1, 0, 1, 0]}),
    ((1, 5, 6, 6), (10, 1, 3, 3), {"group": 5}),
]


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize(("shape", "weights", "attributes"), CONVOLUTIONS)
def test_a_convolution_is_onnx_runtimes_to_the_last_bit(kind: str, shape: Any, weights: Any, attributes: dict[str, Any]) -> None:
    g = Writer(kind)
    y = g.node("Relu", g.conv(g.qdq("x", 0.03, 120), 0.03, weights, **attributes))
    expect_same(g.model(shape, g.qdq(y, 0.02, 3)), shape)


def test_weights_with_a_zero_point_are_two_sums_of_bytes() -> None:
    g = Writer("uint8")
    y = g.conv(g.qdq("x", 0.03, 120), 0.03, (6, 5, 3, 3), kind="uint8", zero=100)
    expect_same(g.model((1, 5, 7, 7), g.qdq(y, 0.02, 128)), (1, 5, 7, 7))


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_what_lies_between_layers_is_computed_in_units_of_the_result(kind: str) -> None:
    """A residual block: an addition behind a layer, an average, a concatenation of two scales, a pool."""
    g, shape = Writer(kind), (1, 8, 10, 10)
    x = g.qdq("x", 0.03, 120)
    y = g.qdq(g.conv(x, 0.03, (8, 8, 3, 3), pads=[1, 1, 1, 1]), 0.02, 130)
    total = g.qdq(g.node("Relu", g.node("Add", x, y)), 0.025, 0)
    product = g.qdq(g.node("Mul", total, y), 0.04, 127)
    joined = g.qdq(g.node("Concat", total, product, axis=1), 0.04, 110)
    pooled = g.qdq(g.node("MaxPool", joined, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), 0.04, 110)
    mean = g.qdq(g.node("GlobalAveragePool", pooled), 0.03, 60)
    expect_same(g.model(shape, mean), shape, steps=1, scale=0.03)


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("operator", ["Add", "Sum"])
@pytest.mark.parametrize("scales", [(0.03, 0.015, 0.06), (0.0325, 0.0325, 0.065), (0.03, 0.02, 0.05)])
def test_sums_and_additions_differ_as_in_onnx_runtime(scales: tuple[float, ...], operator: str, kind: str) -> None:
    """Many of their results lie between two bytes."""
    g, shape = Writer(kind), (1, 40, 30, 20)
    a, b = g.qdq("x", scales[0], 120), g.qdq(g.node("Neg", "x"), scales[1], 7)
    total = g.node(operator, a, g.qdq(g.node("Transpose", b, perm=[0, 1, 2, 3]), scales[1], 7))
    expect_same(g.model(shape, g.qdq(total, scales[2], 131)), shape)


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_an_addition_is_rounded_as_bytes_of_its_own_type_are(kind: str) -> None:
    """Numbers of signed bytes are smaller, and their sums rounded elsewhere: these scales and zero points differ in one pair of 14."""
    g, shape = Writer(kind), (1, 64, 40)
    b = g.qdq(g.node("Mul", "x", g.node("Cos", "x")), 0.06, 131)
    total = g.node("Add", g.qdq("x", 0.045, 123), b)
    expect_same(g.model(shape, g.qdq(total, 0.06, 153)), shape)


POOLS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 4, 8, 4), {"kernel_shape": [7, 1], "pads": [2, 0, 3, 0], "strides": [2, 2]}),
    ((1, 5, 9, 11), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((1, 6, 9, 9), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ((1, 17, 8, 7), {"kernel_shape": [3, 2], "pads": [0, 1, 2, 0], "strides": [1, 2]}),
]


@pytest.mark.parametrize("zero", [0, 19, 147])
@pytest.mark.parametrize(("shape", "attributes"), POOLS)
def test_an_average_halfway_between_two_bytes_is_rounded_as_by_onnx_runtime(shape: Any, attributes: dict[str, Any], zero: int) -> None:
    """A pool has the scale of what it reads, so there are many."""
    g, scale = Writer("uint8"), 0.03245782
    model = g.model(shape, g.qdq(g.node("AveragePool", g.qdq("x", scale, zero), **attributes), scale, zero))
    assert any("average" in name for name in programs(model))
    expect_same(model, shape)


@pytest.mark.parametrize("size", [(7, 7), (3, 5), (2, 4)])
def test_an_average_over_the_whole_image_is_onnx_runtimes_to_the_last_bit(size: tuple[int, int]) -> None:
    g, shape = Writer("uint8"), (2, 40, *size)
    expect_same(g.model(shape, g.qdq(g.node("GlobalAveragePool", g.qdq("x", 0.03, 119)), 0.03 / 4, 119)), shape)


@pytest.mark.parametrize(("shape", "axis"), [((2, 9, 4, 5), 1), ((4, 3, 1, 1), 1), ((3, 7, 6), -2), ((5, 8), 0)])
def test_a_softmax_along_any_axis_is_onnx_runtimes_to_the_last_bit(shape: tuple[int, ...], axis: int) -> None:
    g = Writer("uint8")
    model = g.model(shape, g.qdq(g.node("Softmax", g.qdq("x", 0.03, 120), axis=axis), 1 / 255, 0))
    assert any(name.startswith("softmax") for name in programs(model))
    expect_same(model, shape)


@pytest.mark.parametrize(("shape", "scale"), [((4, 1), 1 / 255), ((2, 3), 1 / 500), ((2, 3, 40), 1e-5)])
def test_a_softmax_over_short_rows_stays_finite(shape: tuple[int, ...], scale: float) -> None:
    """ONNX Runtime's does not: the exponentials times 1 / scale leave the range of float32, and what it returns is 0."""
    g, x = Writer("uint8"), draw(shape)
    model = g.model(shape, g.qdq(g.node("Softmax", g.qdq("x", 0.03, 120), axis=-1), scale, 0))
    e = np.exp((np.clip(np.rint(x / np.float32(0.03)) + 120, 0, 255) - 120) * 0.03)
    want = np.clip(np.rint(e / e.sum(axis=-1, keepdims=True) / scale), 0, 255) * scale
    np.testing.assert_allclose(stack.compile(model, "x86", threads=1).run({"x": x})["y"], want, atol=1e-7)


@pytest.mark.parametrize(("tokens", "width"), [(12, 20), (7, 32)])
def test_attention_over_bytes(tokens: int, width: int) -> None:
    g, shape = Writer("uint8"), (2, tokens, width)
    x = g.qdq("x", 0.03, 120)
    k = g.qdq(g.node("Transpose", x, perm=[0, 2, 1]), 0.03, 120)
    scores = g.qdq(g.node("MatMul", x, k), 0.2, 100)
    mixed = g.qdq(g.node("MatMul", g.qdq(g.node("Softmax", scores, axis=-1), 1 / 256, 0), x), 0.03, 120)
    model = g.model(shape, mixed)
    assert sum(name.startswith("batch_matmul") for name in programs(model)) == (2 if tokens % 4 == 0 else 1)
    expect_same(model, shape, steps=1, scale=0.03)


def test_a_function_of_bytes_is_looked_up() -> None:
    """GELU as the quantiser leaves it: every step through bytes."""
    g, shape = Writer("uint8"), (1, 6, 40)
    h = g.qdq("x", 0.03, 128)
    e = g.qdq(g.node("Erf", g.qdq(g.node("Mul", h, g.constant(0.70710678, "float32")), 0.02, 128)), 2 / 255, 128)
    y = g.node("Mul", h, g.qdq(g.node("Add", e, g.constant(1.0, "float32")), 2 / 255, 0))
    model = g.model(shape, g.qdq(y, 0.04, 10))
    assert sum(name.startswith("table") for name in programs(model)) == 1
    expect_same(model, shape, steps=1, scale=0.04)  # a result halfway between two bytes


@pytest.mark.parametrize(("kind", "zero"), [("int8", 0), ("uint8", 131)])
def test_a_dense_layer_quantised_at_run_time(kind: str, zero: int) -> None:
    g, shape = Writer("uint8"), (1, 9, 21)
    info = np.iinfo(kind)
    w = g.constant(g.rng.integers(info.min, info.max + 1, (21, 18)), kind)
    g.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]))
    sums = g.node("MatMulInteger", "q", w, "z", g.constant(zero, kind))
    real = g.node("Cast", sums, to=onnx.TensorProto.FLOAT)
    y = g.node("Mul", real, g.node("Mul", "s", g.constant(0.004, "float32")))
    model = g.model(shape, g.node("Add", y, g.constant(g.rng.normal(0, 1, 18), "float32")))
    assert any(name.startswith("dense") for name in programs(model))
    x = draw(shape)
    want = reference(model, x)
    got = stack.compile(model, "x86", threads=1).run({"x": x})["y"]
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


def test_a_machine_without_dot_products_of_bytes_computes_in_floats() -> None:
    g, shape = Writer("uint8"), (1, 16, 9, 9)
    y = g.qdq(g.conv(g.qdq("x", 0.03, 120), 0.03, (32, 16, 3, 3)), 0.02, 128)
    model = g.model(shape, y)
    assert not find("x86-avx2").machine.int8_dot
    x = draw(shape)
    got = stack.compile(model, "x86-avx2", threads=1).run({"x": x})["y"]
    assert np.abs(got - reference(model, x)).max() <= 0.02 + 1e-6


def test_a_choice_decides_between_bytes_and_floats() -> None:
    g, shape = Writer("uint8"), (1, 16, 9, 9)
    model = g.model(shape, g.qdq(g.conv(g.qdq("x", 0.03, 120), 0.03, (32, 16, 3, 3)), 0.02, 128))

    def kinds(choices: Choices) -> set[str]:
        module = load(model, {}).module
        for graph_pass in cpu_passes(VNNI, choices):
            module = graph_pass(module)
        return {str(p.dtype) for f in module.functions.values() if isinstance(f, tirx.PrimFunc) for p in f.params if hasattr(p, "dtype")}

    asked = Choices()
    assert "int8" in kinds(asked)
    assert asked.places == {"quantized/0": ("bytes", "floats")}
    assert "int8" not in kinds(Choices({"quantized/0": "floats"}))


def test_networks_in_floats_are_left_alone() -> None:
    x = relax.Var("x", relax.TensorType((2, 4), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(relax.op.nn.relu(x))
        builder.emit_func_output(result)
    module, choices = builder.get(), Choices()
    for graph_pass in cpu_passes(VNNI, choices):
        module = graph_pass(module)
    assert not any(place.startswith("quantized") for place in choices.places)
