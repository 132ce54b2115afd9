"""Every padding of convolutions and pools as explicit numbers: auto_pad and output_shape -> pads.

Conv(auto_pad=SAME_UPPER)   ->   Conv(pads=[0, 0, 1, 1])      where x is [1, 3, 224, 224], the kernel 3x3, the stride 2
"""

from stack.frontends.onnx.graph import Graph, Node
from stack.frontends.onnx.rewrites.body import Rewrite, with_attributes


def split(total: int, upper: bool) -> tuple[int, int]:
    """Before and after; the odd one goes after where `upper`."""
    small = total // 2
    return (small, total - small) if upper else (total - small, small)


def window(node: Node, graph: Graph) -> tuple[list[int], list[int], list[int]] | None:
    """Spatial extents, strides, and extents of the dilated kernel."""
    shape = graph.shape(node.proto.input[0])
    kernel = node.attribute("kernel_shape") or list((graph.shape(node.input(1)) or ())[2:])
    if shape is None or not kernel:
        return None
    rank = len(shape) - 2
    strides, dilations = node.attribute("strides", [1] * rank), node.attribute("dilations", [1] * rank)
    return list(shape[2:]), strides, [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]


def explicit_pads(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    mode, known = node.attribute("auto_pad", "NOTSET"), window(node, graph)
    if mode == "NOTSET" or known is None:
        # a last window that starts in the padding does not count, which shape inference knows only since opset 22
        return [Node(node.proto, 22)] if node.attribute("ceil_mode", 0) and node.opset < 22 else None
    extents, strides, kernel = known
    pairs = [(0, 0)] * len(extents)
    if mode != "VALID":
        totals = [max((-(-x // s) - 1) * s + k - x, 0) for x, s, k in zip(extents, strides, kernel, strict=True)]
        pairs = [split(total, mode == "SAME_UPPER") for total in totals]
    pads = [before for before, _ in pairs] + [after for _, after in pairs]
    return [with_attributes(node, ("auto_pad",), pads=pads)]


def transposed_pads(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """What the wanted output leaves over is padding; what it lacks is output padding."""
    mode, wanted, known = node.attribute("auto_pad", "NOTSET"), node.attribute("output_shape"), window(node, graph)
    if (mode == "NOTSET" and wanted is None) or known is None:
        return None
    extents, strides, kernel = known
    extra = list(node.attribute("output_padding", [0] * len(extents)))
    full = [(x - 1) * s + k + e for x, s, k, e in zip(extents, strides, kernel, extra, strict=True)]
    if wanted is None:
        wanted = full if mode == "VALID" else [x * s for x, s in zip(extents, strides, strict=True)]
    totals = [f - w for f, w in zip(full, list(wanted)[-len(extents) :], strict=True)]
    pairs = [split(max(total, 0), mode == "SAME_UPPER") for total in totals]
    pads = [before for before, _ in pairs] + [after for _, after in pairs]
    extra = [e + max(-total, 0) for e, total in zip(extra, totals, strict=True)]
    return [with_attributes(node, ("auto_pad", "output_shape"), pads=pads, output_padding=extra)]


PADDING: dict[str, Rewrite] = {
    "AveragePool": explicit_pads,
    "Conv": explicit_pads,
    "ConvTranspose": transposed_pads,
    "LpPool": explicit_pads,
    "MaxPool": explicit_pads,
}
