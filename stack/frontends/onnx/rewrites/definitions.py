"""Operators in terms of others, where ONNX itself gives no body and TVM's converter has none, or a wrong one."""

import numpy as np
from onnx import TensorProto, helper

from stack.frontends.onnx.graph import Graph, Node
from stack.frontends.onnx.rewrites.body import Body, Rewrite, with_attributes


def batch_normalization(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """Left in training mode by the exporter: inference uses the stored statistics. New statistics that somebody reads stay, to be refused."""
    if not node.attribute("training_mode", 0) or len(node.proto.output) > 1:
        return None
    return [with_attributes(node, ("training_mode",))]


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
    body = Body(prefix)
    kind = helper.np_dtype_to_tensor_dtype(graph.dtype(node.proto.input[0]) or np.dtype(np.float32))
    body("Cast", body.constant(np.eye(*shape, k=node.attribute("k", 0)), np.float32), output=node.proto.output[0], to=node.attribute("dtype", kind))
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
    """Of mixed types: computed in the floating one, returned in the base's."""
    base, exponent = node.proto.input
    kinds = graph.dtype(base), graph.dtype(exponent)
    if None in kinds or kinds[0] == kinds[1]:
        return None
    body, like_exponent = Body(prefix), np.issubdtype(kinds[0], np.integer) and not np.issubdtype(kinds[1], np.integer)
    if like_exponent:
        body("CastLike", body("Pow", body("CastLike", base, exponent), exponent), base, output=node.proto.output[0])
    else:
        body("Pow", base, body("CastLike", exponent, base), output=node.proto.output[0])
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
    "Elu": elu,
    "EyeLike": eye_like,
    "LpNormalization": lp_normalization,
    "OneHot": one_hot,
    "Pow": power,
    "Upsample": upsample,
}
