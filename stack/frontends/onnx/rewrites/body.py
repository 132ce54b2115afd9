"""Write the nodes that stand for another node."""

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from stack.frontends.onnx.graph import Graph, Node

OPSET = 21  # what rewrites are written in; a node carries its own opset, so the model's does not matter
Rewrite = Callable[[Node, Graph, str], list[Node] | None]


class Body:
    """A list of nodes in the making; a call adds one and returns the name of its result."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[Node] = []

    def __call__(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add `op`; its result is called `output` if given."""
        name = output or f"{self.prefix}{len(self.nodes)}"
        self.nodes.append(Node(helper.make_node(op, list(inputs), [name], name=f"{self.prefix}{op}", **attributes), OPSET))
        return name

    def constant(self, values: Any, dtype: Any) -> str:
        return self("Constant", value=numpy_helper.from_array(np.asarray(values, dtype)))


def with_attributes(node: Node, remove: tuple[str, ...] = (), **new: Any) -> Node:
    """The same node with some attributes changed."""
    kept = [attribute for attribute in node.proto.attribute if attribute.name not in new and attribute.name not in remove]
    proto = helper.make_node(node.proto.op_type, list(node.proto.input), list(node.proto.output), name=node.proto.name, **new)
    proto.attribute.extend(kept)
    return Node(proto, node.opset)
