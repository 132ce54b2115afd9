"""TopK without a sort: an element's rank is how many come before it, and place r takes the element of rank r.

    TopK(x, k)   ->   rank[i] = count(j: x[j] > x[i], or as large with j < i);   y[r] = sum(x[i] where rank[i] = r)

TVM's operator calls a library that our libraries do not contain. n x n comparisons vectorise; a sort does not.
"""

import numpy as np
from onnx import TensorProto

from stack.frontends.onnx.graph import Graph, Node
from stack.frontends.onnx.rewrites.body import Body, Rewrite


def top_k(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    x, count = node.proto.input[:2]
    shape, dtype = graph.shape(x), graph.dtype(x)
    if shape is None or dtype is None or count not in graph.values:
        return None
    axis, k = node.attribute("axis", -1) % len(shape), int(graph.values[count].reshape(()))
    size, body = shape[axis], Body(prefix)
    order = [i for i in range(len(shape)) if i != axis] + [axis]
    back = list(np.argsort(order))
    row = x if axis == len(shape) - 1 else body("Transpose", x, perm=order)
    last, positions = body.constant([-1], np.int64), np.arange(size, dtype=np.int32)
    mine, other = body("Unsqueeze", row, last), body("Unsqueeze", row, body.constant([-2], np.int64))
    earlier = body("Less", body.constant(positions[None, :], np.int32), body.constant(positions[:, None], np.int32))
    beats = body("Greater" if node.attribute("largest", 1) else "Less", other, mine)
    before = body("Or", beats, body("And", body("Equal", other, mine), earlier))
    rank = body("ReduceSum", body("Cast", before, to=TensorProto.INT32), last, keepdims=0)
    places = body.constant(np.arange(k)[:, None], np.int32)
    chosen = body("Equal", body("Unsqueeze", rank, body.constant([-2], np.int64)), places)
    values = body("ReduceSum", body("Where", chosen, other, body.constant(0, dtype)), last, keepdims=0)
    numbers = body("Where", chosen, body.constant(positions, np.int32), body.constant(0, np.int32))
    indices = body("Cast", body("ReduceSum", numbers, last, keepdims=0), to=TensorProto.INT64)
    for result, output in zip((values, indices), node.proto.output, strict=False):
        if output:
            body("Transpose", result, output=output, perm=back)
    return body.nodes


SORTING: dict[str, Rewrite] = {"TopK": top_k}
