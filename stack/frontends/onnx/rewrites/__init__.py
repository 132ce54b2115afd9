"""Operators that TVM's converters lack or get wrong -> nodes that they get right. One group of operators a file."""

from stack.frontends.onnx.graph import Graph, Node
from stack.frontends.onnx.rewrites.body import Rewrite
from stack.frontends.onnx.rewrites.definitions import DEFINITIONS
from stack.frontends.onnx.rewrites.old_forms import OLD_FORMS, modernise
from stack.frontends.onnx.rewrites.padding import PADDING
from stack.frontends.onnx.rewrites.quantized import ONNX_RUNTIME, QUANTIZED
from stack.frontends.onnx.rewrites.resize import resize
from stack.frontends.onnx.rewrites.scatter import SCATTER
from stack.frontends.onnx.rewrites.sorting import SORTING

REWRITES: dict[str, Rewrite] = {**DEFINITIONS, **ONNX_RUNTIME, **PADDING, **QUANTIZED, **SCATTER, **SORTING, "Resize": resize}


def rewrite(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """The nodes to use instead of `node`, whose inner names start with `prefix`; None where it is fine as it is."""
    if node.proto.domain not in ("", "ai.onnx") and node.op not in ONNX_RUNTIME:
        return None
    if node.op in OLD_FORMS and (modern := modernise(node, graph, prefix)):
        return modern
    return REWRITES[node.op](node, graph, prefix) if node.op in REWRITES else None
