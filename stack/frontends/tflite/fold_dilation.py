"""A convolution between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND is one with a dilation, and becomes it.

    y = BATCH_TO_SPACE_ND(CONV_2D(SPACE_TO_BATCH_ND(x, blocks, pads), VALID), blocks, crops)
      ->   y = CONV_2D(x, dilation = blocks, pads = pads - crops)

Older converters write dilated convolutions so. Each result is the sum of the same products, so nothing is lost and two copies are saved.
Left alone: strides, intermediate results that others read, and crops that are larger than the pads.
"""

from collections import Counter
from dataclasses import replace

from stack.frontends.tflite.graph import Array, Graph, Node

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
VALID = 1


def fold_dilation(graph: Graph) -> Graph:
    """`graph` with the pattern replaced; itself where there is none."""
    made = {index: node for node in graph.nodes for index in node.outputs}
    reads = Counter(index for node in graph.nodes for index in node.inputs)
    reads.update(graph.outputs)
    folded: dict[int, Node] = {}
    dropped: set[int] = set()
    for node in graph.nodes:
        found = pattern(graph, node, made, reads) if node.op == "BATCH_TO_SPACE_ND" else None
        if found:
            before, convolution, options = found
            inputs = (before.inputs[0], *convolution.inputs[1:])
            folded[node.position] = replace(convolution, position=node.position, inputs=inputs, outputs=node.outputs, options=options)
            dropped |= {before.position, convolution.position}
    if not folded:
        return graph
    return replace(graph, nodes=[folded.get(node.position, node) for node in graph.nodes if node.position not in dropped])


def pattern(graph: Graph, after: Node, made: dict[int, Node], reads: Counter[int]) -> tuple[Node, Node, dict[str, object]] | None:
    """The two nodes before `after`, and the options of the convolution that takes the place of all three."""
    convolution = made.get(after.inputs[0]) if len(after.inputs) == 3 else None
    before = made.get(convolution.inputs[0]) if convolution and convolution.op in CONVOLUTIONS and convolution.inputs else None
    if convolution is None or before is None or before.op != "SPACE_TO_BATCH_ND" or len(before.inputs) != 3:
        return None
    if reads[after.inputs[0]] != 1 or reads[convolution.inputs[0]] != 1:
        return None
    blocks, pads, ends, crops = (constant(graph, index) for index in (*before.inputs[1:], *after.inputs[1:]))
    if blocks is None or pads is None or ends is None or crops is None or blocks.shape != (2,) or blocks.tolist() != ends.tolist():
        return None
    old = convolution.options
    plain = [old[name] for name in ("stride_h", "stride_w", "dilation_h_factor", "dilation_w_factor")] == [1] * 4
    if not plain or old["padding"] != VALID or pads.shape != (2, 2) or crops.shape != (2, 2) or (pads < crops).any() or (crops < 0).any():
        return None
    (top, bottom), (left, right) = (pads - crops).tolist()
    dilation = {"dilation_h_factor": int(blocks[0]), "dilation_w_factor": int(blocks[1])}
    return before, convolution, {**old, **dilation, "pads": (top, left, bottom, right)}


def constant(graph: Graph, index: int) -> Array | None:
    return graph.tensors[index].value if index >= 0 else None
