"""Operators in terms of others, where ONNX itself gives no body and TVM's converter has none, or a wrong one."""

import numpy as np
from onnx import TensorProto, helper

from stack.frontends.onnx.graph import Graph, Node
from stack.frontends.onnx.rewrites.body import Body, Rewrite, with_attributes


def batch_normalization(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """Left in training mode by the exporter: inference uses the stored statistics. If new ones are read, it stays."""
    if not node.attribute("training_mode", 0) or len(node.proto.output) > 1:
        return None
    return [with_attributes(node, ("training_mode",))]


def cosh(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """(e^x + e^-x) / 2"""
    x, body = node.proto.input[0], Body(prefix)
    total = body("Add", body("Exp", x), body("Exp", body("Neg", x)))
    body("Mul", total, body.constant(0.5, graph.dtype(x)), output=node.proto.output[0])
    return body.nodes


def sinh(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """(e^x - e^-x) / 2, and below 1, where that cancels, its series to x^11."""
    x, dtype, body = node.proto.input[0], graph.dtype(node.proto.input[0]), Body(prefix)
    half, one = body.constant(0.5, dtype), body.constant(1, dtype)
    large = body("Mul", body("Sub", body("Exp", x), body("Exp", body("Neg", x))), half)
    square, series = body("Mul", x, x), one
    for divisor in (110, 72, 42, 20, 6):
        series = body("Add", one, body("Mul", body("Mul", square, body.constant(1 / divisor, dtype)), series))
    body("Where", body("Less", square, one), body("Mul", x, series), large, output=node.proto.output[0])
    return body.nodes


def mish(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """x * tanh(log(1 + e^x)) with one exponential: x * n / (n + 2), where n = e^x (e^x + 2); from 20 on, that is x."""
    x, dtype, body = node.proto.input[0], graph.dtype(node.proto.input[0]), Body(prefix)
    two = body.constant(2, dtype)
    power = body("Exp", body("Min", x, body.constant(5 if dtype == np.float16 else 20, dtype)))
    n = body("Mul", power, body("Add", power, two))
    body("Mul", x, body("Div", n, body("Add", n, two)), output=node.proto.output[0])
    return body.nodes


def cumulative_sum(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """The sum over a triangle; TVM's operator has no program of its own."""
    x, axis_name = node.proto.input
    shape, dtype = graph.shape(x), graph.dtype(x)
    if shape is None or axis_name not in graph.values:
        return None
    axis = int(graph.values[axis_name].reshape(())) % len(shape)
    order = [i for i in range(len(shape)) if i != axis] + [axis]
    body, size = Body(prefix), shape[axis]
    position = np.arange(size, dtype=np.int32)
    column, row = body.constant(position[:, None], np.int32), body.constant(position[None, :], np.int32)
    first, second = (column, row) if node.attribute("reverse", 0) else (row, column)
    inside = body("Less" if node.attribute("exclusive", 0) else "LessOrEqual", first, second)
    values = body("Unsqueeze", body("Transpose", x, perm=order), body.constant([-2], np.int64))
    total = body("ReduceSum", body("Where", inside, values, body.constant(0, dtype)), body.constant([-1], np.int64), keepdims=0)
    body("Transpose", total, output=node.proto.output[0], perm=[int(i) for i in np.argsort(order)])
    return body.nodes


def elu(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """TVM's knows float32 alone."""
    x, dtype = node.proto.input[0], graph.dtype(node.proto.input[0])
    if dtype is None or dtype == np.float32:
        return None
    body = Body(prefix)
    one, zero, alpha = (body.constant(value, dtype) for value in (1, 0, node.attribute("alpha", 1.0)))
    low = body("Mul", alpha, body("Sub", body("Exp", x), one))
    body("Where", body("Less", x, zero), low, x, output=node.proto.output[0])
    return body.nodes


def eye_like(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """A constant, since the shape is known."""
    shape = graph.shape(node.proto.input[0])
    if shape is None:
        return None
    body, (rows, columns) = Body(prefix), shape
    same = helper.np_dtype_to_tensor_dtype(graph.dtype(node.proto.input[0]) or np.dtype(np.float32))
    ones = body.constant(np.eye(rows, columns, node.attribute("k", 0)), np.float32)
    body("Cast", ones, output=node.proto.output[0], to=node.attribute("dtype", same))
    return body.nodes


def is_inf(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """TVM's takes either sign, whatever the attributes say."""
    signs = node.attribute("detect_negative", 1), node.attribute("detect_positive", 1)
    if all(signs):
        return None
    x, body = node.proto.input[0], Body(prefix)
    zero, no = body.constant(0, graph.dtype(x)), body.constant(False, bool)
    sign = body("Greater", x, zero) if signs[1] else body("Less", x, zero)
    body("And", body("IsInf", x), sign if any(signs) else no, output=node.proto.output[0])
    return body.nodes


def lp_normalization(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """x / |x|, and 0 where the norm is 0."""
    body, dtype = Body(prefix), graph.dtype(node.proto.input[0])
    axes = body.constant([node.attribute("axis", -1)], np.int64)
    norm = body(f"ReduceL{node.attribute('p', 2)}", node.proto.input[0], axes, keepdims=1)
    zero, one = body.constant(0, dtype), body.constant(1, dtype)
    safe = body("Where", body("Equal", norm, zero), one, norm)
    body("Div", node.proto.input[0], safe, output=node.proto.output[0])
    return body.nodes


def one_hot(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """on where the index is the position, off elsewhere, also for indices out of range."""
    indices, depth, values = node.proto.input
    shape = graph.shape(indices)
    if depth not in graph.values or shape is None:
        return None
    count, rank = int(graph.values[depth].reshape(())), len(shape) + 1
    axis = node.attribute("axis", -1) % rank
    body = Body(prefix)
    index = body("Cast", indices, to=TensorProto.INT64)
    zero, size = body.constant(0, np.int64), body.constant(count, np.int64)
    index = body("Where", body("Less", index, zero), body("Add", index, size), index)
    index = body("Unsqueeze", index, body.constant([axis], np.int64))
    positions = np.arange(count).reshape([count if i == axis else 1 for i in range(rank)])
    hit = body("Equal", index, body.constant(positions, np.int64))
    off, on = (body("Gather", values, body.constant(i, np.int64), axis=0) for i in (0, 1))
    body("Where", hit, on, off, output=node.proto.output[0])
    return body.nodes


def power(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """TVM's takes two floats of one type: mixed types meet in the floating one, integers in float64; the base's type is the result's."""
    base, exponent = node.proto.input
    kind, other = graph.dtype(base), graph.dtype(exponent)
    if kind is None or other is None or (kind == other and kind.kind not in "iu"):
        return None
    body = Body(prefix)
    if kind.kind not in "iu":
        body("Pow", base, body("CastLike", exponent, base), output=node.proto.output[0])
        return body.nodes
    wide = [body("Cast", name, to=TensorProto.DOUBLE) for name in (base, exponent)]
    body("CastLike", body("Pow", *wide), base, output=node.proto.output[0])
    return body.nodes


def reduce_bool(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """The largest or least of truth values, as numbers."""
    x, axes = node.proto.input[0], node.proto.input[1:]
    if graph.dtype(x) != np.bool_:
        return None
    body = Body(prefix)
    numbers = body("Cast", x, to=TensorProto.UINT8)
    keep = {name: node.attribute(name) for name in ("keepdims", "noop_with_empty_axes") if node.has(name)}
    body("Cast", body(node.op, numbers, *axes, **keep), to=TensorProto.BOOL, output=node.proto.output[0])
    return body.nodes


def space_to_depth(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """Its newer mode, channels first."""
    shape, block = graph.shape(node.proto.input[0]), node.attribute("blocksize")
    if shape is None or node.attribute("mode", "DCR") == "DCR":
        return None
    n, c, h, w = shape
    body = Body(prefix)
    tiles = body("Reshape", node.proto.input[0], body.constant([n, c, h // block, block, w // block, block], np.int64))
    tiles = body("Transpose", tiles, perm=[0, 1, 3, 5, 2, 4])
    body("Reshape", tiles, body.constant([n, c * block**2, h // block, w // block], np.int64), output=node.proto.output[0])
    return body.nodes


def upsample(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """Resize from before it had modes."""
    mode = node.attribute("mode", "nearest")
    body = Body(prefix)
    form = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", "mode": "linear" if mode == "bilinear" else mode}
    body("Resize", node.proto.input[0], "", node.proto.input[1], output=node.proto.output[0], **form)
    return body.nodes


DEFINITIONS: dict[str, Rewrite] = {
    "BatchNormalization": batch_normalization,
    "Cosh": cosh,
    "CumSum": cumulative_sum,
    "Elu": elu,
    "EyeLike": eye_like,
    "IsInf": is_inf,
    "LpNormalization": lp_normalization,
    "Mish": mish,
    "OneHot": one_hot,
    "Pow": power,
    "ReduceMax": reduce_bool,
    "ReduceMin": reduce_bool,
    "Sinh": sinh,
    "SpaceToDepth": space_to_depth,
    "Upsample": upsample,
}
