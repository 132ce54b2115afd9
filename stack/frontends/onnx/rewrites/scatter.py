"""Writes to places that are known when compiling, as a choice for each element of the result.

ScatterND(x, [[1], [0]], u)   ->   Where(written, Gather(u, source), x)
"""

import numpy as np

from stack.frontends.onnx.graph import Graph, Node
from stack.frontends.onnx.rewrites.body import Body, Rewrite


def scatter_nd(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    data, indices, _ = node.proto.input
    shape = graph.shape(data)
    if shape is None or indices not in graph.values or node.attribute("reduction", "none") != "none":
        return None
    where = graph.values[indices]
    where = where + (where < 0) * np.array(shape[: where.shape[-1]])
    numbers = np.arange(np.prod(shape, dtype=np.int64)).reshape(shape)
    return choose(node, shape, numbers[tuple(np.moveaxis(where, -1, 0))], prefix)


def scatter_elements(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    data, indices, _ = node.proto.input
    shape = graph.shape(data)
    if shape is None or indices not in graph.values or node.attribute("reduction", "none") != "none":
        return None
    axis, where = node.attribute("axis", 0) % len(shape), graph.values[indices]
    places = list(np.indices(where.shape))
    places[axis] = where + (where < 0) * shape[axis]
    numbers = np.arange(np.prod(shape, dtype=np.int64)).reshape(shape)
    return choose(node, shape, numbers[tuple(places)], prefix)


def choose(node: Node, shape: tuple[int, ...], written: np.ndarray, prefix: str) -> list[Node]:
    """`written` holds, for each update in order, the number of the element it goes to; the last write wins."""
    source = np.full(shape, -1, np.int64)
    source.reshape(-1)[written.reshape(-1)] = np.arange(written.size)
    body, (data, _, updates) = Body(prefix), node.proto.input
    values = body("Gather", body("Reshape", updates, body.constant([-1], np.int64)), body.constant(np.maximum(source, 0), np.int64))
    body("Where", body.constant(source >= 0, bool), values, data, output=node.proto.output[0])
    return body.nodes


SCATTER: dict[str, Rewrite] = {"Scatter": scatter_elements, "ScatterElements": scatter_elements, "ScatterND": scatter_nd}
