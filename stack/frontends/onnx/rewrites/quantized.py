"""Operators over integers in QDQ form, in which the passes know quantised operators.

    QLinearConv(x, w, bias)      ->   QuantizeLinear(Conv(DequantizeLinear(x), DequantizeLinear(w), DequantizeLinear(bias)))
    QLinearAdd(a, b)             ->   QuantizeLinear(Add(DequantizeLinear(a), DequantizeLinear(b)))
    MatMulInteger(a, b)          ->   MatMul over int32, each less its zero point
    ConvInteger(x, w)            ->   Conv over floats that hold every sum exactly, each less its zero point, then int32

QLinearAdd and its kin are ONNX Runtime's, which writes them where it has quantised a model and merged its QDQ pairs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from stack.frontends.onnx.graph import Graph, Node
from stack.frontends.onnx.rewrites.body import Body, Rewrite

EXACT_IN_FLOAT32 = 1 << 24  # all whole numbers up to it are float32
LARGEST_BYTE = 255


def attributes(node: Node, drop: Sequence[str] = ()) -> dict[str, Any]:
    return {item.name: node.attribute(item.name) for item in node.proto.attribute if item.name not in drop}


class Quantized(Body):
    """A body that reads and writes tensors by their scales and zero points."""

    def __init__(self, graph: Graph, prefix: str) -> None:
        super().__init__(prefix)
        self.graph = graph

    def single(self, name: str) -> str:
        """A parameter of the whole tensor as a number; ONNX allows one of one element too."""
        return self("Squeeze", name) if name and self.graph.shape(name) == (1,) else name

    def real(self, x: str, scale: str, zero: str, axis: int = 1) -> str:
        return self("DequantizeLinear", x, self.single(scale), *([self.single(zero)] if zero else []), axis=axis)

    def integers(self, y: str, scale: str, zero: str, output: str) -> list[Node]:
        self("QuantizeLinear", y, self.single(scale), *([self.single(zero)] if zero else []), output=output)
        return self.nodes

    def less_zero(self, x: str, zero: str, dtype: int, axis: int | None = None) -> str:
        """x - zero as another type; a zero point for each index of `axis`, where there are several, is broadcast along those behind."""
        value = self("Cast", x, to=dtype)
        if not zero:
            return value
        offset = self("Cast", self.single(zero), to=dtype)
        extents, given = self.graph.shape(x), self.graph.shape(zero)
        if axis is not None and extents is not None and given is not None and np.prod(given, dtype=int) > 1:
            behind = len(extents) - 1 - axis % len(extents)
            offset = self("Reshape", offset, self.constant([-1, *[1] * behind], np.int64))
        return self("Sub", value, offset)


def convolution(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = node.proto.input[:8]
    body = Quantized(graph, prefix)
    tensors = [body.real(x, x_scale, x_zero), body.real(w, w_scale, w_zero, axis=0)]
    if node.input(8):
        scale = body("Mul", body.single(x_scale), body.single(w_scale))
        tensors.append(body("DequantizeLinear", node.input(8), scale, axis=0))
    return body.integers(body("Conv", *tensors, **attributes(node)), y_scale, y_zero, node.proto.output[0])


def product(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = node.proto.input
    rank = len(graph.shape(b) or ())
    if any(np.prod(graph.shape(name) or (), dtype=int) > 1 for name in (a_scale, a_zero, y_scale, y_zero)) or rank < 2:
        return None
    body = Quantized(graph, prefix)
    result = body("MatMul", body.real(a, a_scale, a_zero), body.real(b, b_scale, b_zero, axis=rank - 1))
    return body.integers(result, y_scale, y_zero, node.proto.output[0])


def gemm(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """ONNX Runtime's dense layer; the scale of its int32 bias is that of the products."""
    a, a_scale, a_zero, b, b_scale, b_zero, bias, y_scale, y_zero = (node.input(index) for index in range(9))
    if not y_scale or node.attribute("alpha", 1.0) != 1.0:
        return None
    body = Quantized(graph, prefix)
    tensors = [body.real(a, a_scale, a_zero), body.real(b, b_scale, b_zero, axis=0 if node.attribute("transB", 0) else 1)]
    if bias:
        scale = body("Mul", body.single(a_scale), body.single(b_scale))
        tensors.append(body("DequantizeLinear", bias, scale, axis=0))
    return body.integers(body("Gemm", *tensors, **attributes(node)), y_scale, y_zero, node.proto.output[0])


def pair(operator: str) -> Rewrite:
    def rewrite(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
        body = Quantized(graph, prefix)
        a, b = (body.real(node.input(first), node.input(first + 1), node.input(first + 2)) for first in (0, 3))
        return body.integers(body(operator, a, b), node.input(6), node.input(7), node.proto.output[0])

    return rewrite


def single(operator: str, *drop: str) -> Rewrite:
    """One tensor; attributes that only the integer form has are dropped, and refused where they ask for another layout."""

    def rewrite(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
        if node.attribute("channels_last", 0):
            return None
        body = Quantized(graph, prefix)
        result = body(operator, body.real(node.input(0), node.input(1), node.input(2)), **attributes(node, ("channels_last", *drop)))
        return body.integers(result, node.input(3), node.input(4), node.proto.output[0])

    return rewrite


def concatenation(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    y_scale, y_zero, *parts = node.proto.input
    body = Quantized(graph, prefix)
    reals = [body.real(*part) for part in zip(parts[::3], parts[1::3], parts[2::3], strict=True)]
    return body.integers(body("Concat", *reals, **attributes(node)), y_scale, y_zero, node.proto.output[0])


def integer_product(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    body = Quantized(graph, prefix)
    a = body.less_zero(node.input(0), node.input(2), TensorProto.INT32, axis=-2)
    b = body.less_zero(node.input(1), node.input(3), TensorProto.INT32)
    body("MatMul", a, b, output=node.proto.output[0])
    return body.nodes


def integer_convolution(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    extents = graph.shape(node.input(1))
    if extents is None:
        return None
    largest = int(np.prod(extents[1:], dtype=int)) * LARGEST_BYTE**2
    real = TensorProto.FLOAT if largest <= EXACT_IN_FLOAT32 else TensorProto.DOUBLE
    body = Quantized(graph, prefix)
    x = body.less_zero(node.input(0), node.input(2), real)
    w = body.less_zero(node.input(1), node.input(3), real, axis=0)
    body("Cast", body("Conv", x, w, **attributes(node)), to=TensorProto.INT32, output=node.proto.output[0])
    return body.nodes


def padded(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """A Pad whose value a quantiser stored as an integer: importers want the number."""
    name = node.input(2)
    maker = next((other for other in graph.nodes if name and name in other.proto.output), None)
    if maker is None or maker.op != "DequantizeLinear" or any(part not in graph.values for part in maker.proto.input):
        return None
    stored, scale, *zero = (graph.values[part] for part in maker.proto.input)
    real = (stored.astype("int64") - (zero[0].astype("int64") if zero else 0)).astype("float32") * scale
    body = Body(prefix)
    inputs = list(node.proto.input)
    inputs[2] = body.constant(real, np.float32)
    return [
        *body.nodes,
        Node(helper.make_node("Pad", inputs, list(node.proto.output), name=node.proto.name, **attributes(node)), node.opset),
    ]


QUANTIZED: dict[str, Rewrite] = {
    "ConvInteger": integer_convolution,
    "MatMulInteger": integer_product,
    "Pad": padded,
    "QLinearConv": convolution,
    "QLinearMatMul": product,
}
ONNX_RUNTIME: dict[str, Rewrite] = {
    "com.microsoft:QGemm": gemm,
    "com.microsoft:QLinearAdd": pair("Add"),
    "com.microsoft:QLinearAveragePool": single("AveragePool"),
    "com.microsoft:QLinearConcat": concatenation,
    "com.microsoft:QLinearGlobalAveragePool": single("GlobalAveragePool"),
    "com.microsoft:QLinearLeakyRelu": single("LeakyRelu"),
    "com.microsoft:QLinearMul": pair("Mul"),
    "com.microsoft:QLinearSigmoid": single("Sigmoid"),
    "com.microsoft:QLinearSoftmax": single("Softmax", "opset"),
}
