"""Name every operator of the graph that we cannot compile, all at once, before anything is imported."""

from stack.errors import UnsupportedOp
from stack.frontends.onnx.graph import Graph, Node
from stack.frontends.onnx.importer import imports

DATA_DEPENDENT = "the shape of its result depends on its input's values"
INTEGER = "integer arithmetic is not compiled yet"
SEQUENCE = "only tensors can be compiled, not sequences or optional values"
REASONS = {
    **dict.fromkeys(("NonZero", "Unique", "NonMaxSuppression", "AllClassNMS", "Compress"), DATA_DEPENDENT),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "ConvInteger", "MatMulInteger", "MatMulInteger16"), INTEGER),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), "recurrent layers are not compiled yet"),
    **dict.fromkeys(("Loop", "Scan", "SequenceMap"), "loops are not compiled"),
    "If": "its condition depends on the input's values",
    **dict.fromkeys(("Optional", "OptionalHasElement", "OptionalGetElement"), SEQUENCE),
    **dict.fromkeys(("SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceAt"), SEQUENCE),
    **dict.fromkeys(("ConcatFromSequence", "SplitToSequence"), SEQUENCE),
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"), "it is random"),
}


def reason_against(node: Node) -> str | None:
    """Why the node cannot be compiled, or None."""
    if node.op in REASONS:
        return REASONS[node.op]
    if node.op == "BatchNormalization" and len(node.proto.output) > 1:
        return "the statistics it computes are only for training"
    if node.proto.domain not in ("", "ai.onnx"):
        return f"operators of {node.proto.domain} are not known"
    if not imports(node):
        return "not known"
    return None


def check_support(graph: Graph, at: str) -> None:
    """Raises UnsupportedOp with a line for each node that cannot be compiled."""
    found = [(node, reason) for node in graph.nodes if (reason := reason_against(node))]
    if found:
        raise unsupported(found, at)


def unsupported(found: list[tuple[Node, str]], at: str) -> UnsupportedOp:
    ops = sorted({node.op for node, _ in found})
    what = f"the operator {ops[0]} is not supported" if len(ops) == 1 else f"{len(ops)} operators are not supported: {', '.join(ops)}"
    lines = "".join(f"\n    {node.label}: {reason}" for node, reason in found)
    return UnsupportedOp(what, at=f"{at}{lines}", hint="cut the model before them, or export it without them")
