"""Name every operator of the graph that we cannot compile, all at once, before anything is imported."""

import numpy as np

from stack.errors import UnsupportedOp
from stack.frontends.onnx.graph import Graph, Node
from stack.frontends.onnx.importer import imports

DATA_DEPENDENT = "the shape of its result depends on its input's values"
ROWS = "its scales or zero points differ from row to row, or the shape of its weights is not known"
SEQUENCE = "only tensors can be compiled, not sequences or optional values"
REASONS = {
    **dict.fromkeys(("NonZero", "Unique", "NonMaxSuppression", "AllClassNMS", "Compress"), DATA_DEPENDENT),
    **dict.fromkeys(("QLinearMatMul", "ConvInteger"), ROWS),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), "recurrent layers are not compiled yet"),
    **dict.fromkeys(("Loop", "Scan", "SequenceMap"), "loops are not compiled"),
    "If": "its condition depends on the input's values",
    **dict.fromkeys(("Optional", "OptionalHasElement", "OptionalGetElement"), SEQUENCE),
    **dict.fromkeys(("SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceAt"), SEQUENCE),
    **dict.fromkeys(("ConcatFromSequence", "SplitToSequence"), SEQUENCE),
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"), "it is random"),
}


DTYPES = {
    "bool", "bfloat16", "float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
}  # fmt: skip


def reason_against(node: Node, graph: Graph) -> str | None:
    """Why the node cannot be compiled, or None."""
    if node.op in REASONS:
        return REASONS[node.op]
    odd = [dtype for name in (*node.proto.input, *node.proto.output) if name and (dtype := graph.dtype(name)) and str(dtype) not in DTYPES]
    if odd:
        return f"element type {'string' if odd[0] == np.dtype(object) else odd[0]} is not compiled"
    if node.op == "BatchNormalization" and len(node.proto.output) > 1:
        return "the statistics it computes are only for training"
    if node.op in ("Scatter", "ScatterElements", "ScatterND"):
        return "it writes to places that are computed, or adds to them"
    if node.op == "TopK":
        return "the number of its results is computed"
    if node.op == "RoiAlign" and node.attribute("mode", "avg") != "avg":
        return "only its average mode is compiled"
    if node.proto.domain not in ("", "ai.onnx"):
        return f"operators of {node.proto.domain} are not known"
    if not imports(node):
        return "not known"
    return None


def check_support(graph: Graph, at: str) -> None:
    """Raises UnsupportedOp with a line for each node that cannot be compiled."""
    found = [(node, reason) for node in graph.nodes if (reason := reason_against(node, graph))]
    if found:
        raise unsupported(found, at)


def unsupported(found: list[tuple[Node, str]], at: str) -> UnsupportedOp:
    ops = sorted({node.op for node, _ in found})
    what = f"the operator {ops[0]} is not supported" if len(ops) == 1 else f"{len(ops)} operators are not supported: {', '.join(ops)}"
    lines = "".join(f"\n    {node.label}: {reason}" for node, reason in found)
    return UnsupportedOp(what, at=f"{at}{lines}", hint="cut the model before them, or export it without them")
