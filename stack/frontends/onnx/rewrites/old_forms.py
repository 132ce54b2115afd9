"""Forms of operators from before their attributes became inputs -> today's, which TVM's converters read.

Slice(x, axes=[1], starts=[0], ends=[4])  (opset 9)   ->   Slice(x, [0], [4], [1])
"""

from typing import Any

import numpy as np
from onnx import helper

from stack.frontends.onnx.graph import Graph, Node
from stack.frontends.onnx.rewrites.body import Body

# operator: the opset of today's form, and its inputs after the first: the attribute each was, its dtype (None: that of the data)
AXES = (("axes", np.int64),)
OLD_FORMS: dict[str, tuple[int, tuple[tuple[str, Any], ...]]] = {
    "Clip": (11, (("min", None), ("max", None))),
    "Pad": (11, (("pads", np.int64), ("value", None))),
    "Reshape": (5, (("shape", np.int64),)),
    "Slice": (10, (("starts", np.int64), ("ends", np.int64), ("axes", np.int64))),
    "Split": (13, (("split", np.int64),)),
    "Squeeze": (13, AXES),
    "TopK": (11, (("k", np.int64),)),
    "Unsqueeze": (13, AXES),
    "Upsample": (9, (("scales", np.float32),)),
    "ReduceSum": (13, AXES),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"), (18, AXES)),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare"), (18, AXES)),
}


def modernise(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    since, moved = OLD_FORMS[node.op]
    if node.opset >= since:
        return None
    body = Body(prefix)
    inputs = [node.proto.input[0]]
    for name, dtype in moved:
        value = node.attribute(name)
        if name == "k" and value is not None:
            value = [value]
        inputs.append("" if value is None else body.constant(value, dtype or graph.dtype(node.proto.input[0])))
    inputs[1 : len(node.proto.input)] = node.proto.input[1:]
    gone = {name for name, _ in moved} | ({"paddings"} if node.op == "Pad" else set()) | {"consumed_inputs"}
    proto = helper.make_node(node.proto.op_type, inputs, list(node.proto.output), name=node.proto.name)
    proto.attribute.extend(attribute for attribute in node.proto.attribute if attribute.name not in gone)
    if node.op == "Split" and not node.has("split"):
        proto.attribute.append(helper.make_attribute("num_outputs", len(node.proto.output)))
    opset = 9 if node.op == "Upsample" else 18 if node.op == "Split" else max(since, node.opset)
    return [*body.nodes, Node(proto, opset)]
