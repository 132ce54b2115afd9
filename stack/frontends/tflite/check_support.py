"""Name every operator and every quantisation of the graph that we cannot compile, all at once, before anything is imported."""

from stack.errors import BadModel, UnsupportedOp
from stack.frontends.tflite.conversion import is_quantized
from stack.frontends.tflite.graph import Graph, Node, Source, Tensor
from stack.frontends.tflite.operators import REAL, STORED

DTYPES = {"bool", "float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "resource"}
CONTROL = "its branches or its body would run as the values ask, and a model is compiled as a straight line"
DATA_DEPENDENT = "the shape of its result depends on its input's values"
REASONS = {
    **dict.fromkeys(("IF", "WHILE", "CALL"), CONTROL),
    **dict.fromkeys(("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "WHERE", "UNIQUE"), DATA_DEPENDENT),
    **dict.fromkeys(("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL"), "it is random"),
}
NOT_HYBRID = ("BATCH_MATMUL", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM")  # their second input is weights
SCALED = ("SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM")  # they quantise by themselves, but must have scales like the others


def reason_against(node: Node, graph: Graph) -> str | None:
    """Why the node cannot be compiled, or None."""
    if node.op in REASONS:
        return REASONS[node.op]
    if node.op not in REAL and node.op not in STORED:
        return "not known"
    inputs = [graph.tensors[index] for index in node.inputs if index >= 0]
    outputs = [graph.tensors[index] for index in node.outputs]
    for tensor in (*inputs, *outputs):
        if tensor.dtype not in DTYPES:
            return f"element type {'string' if tensor.dtype == 'str' else tensor.dtype} of {tensor.name!r} is not compiled"
        if tensor.sparse:
            return f"{tensor.name!r} is stored sparse"
        if tensor.affine is not None and is_quantized(tensor) and not tensor.affine.scale.all():
            return f"the scale of {tensor.name!r} is zero"
        if tensor.affine is not None and is_quantized(tensor) and tensor.value is None and not tensor.affine.per_tensor:
            return f"{tensor.name!r} is quantised per channel, which only weights can be"
    return reason_against_quantization(node, inputs, outputs)


def reason_against_quantization(node: Node, inputs: list[Tensor], outputs: list[Tensor]) -> str | None:
    if node.op not in REAL and node.op not in SCALED:
        return None
    for tensor in (*inputs, *outputs):
        if tensor.dtype == "uint8" and tensor.affine is not None:
            return f"{tensor.name!r} is quantised to uint8, which TFLite has replaced by int8: convert the model again"
        if tensor.dtype in ("int8", "int16") and tensor.affine is None:
            return f"{tensor.name!r} is {tensor.dtype} without a scale"
    if node.op in NOT_HYBRID and len(inputs) > 1 and inputs[0].dtype == "float32" and is_quantized(inputs[1]):
        return (
            f"its weights {inputs[1].name!r} are {inputs[1].dtype} and its activations float32, which would be quantised anew"
            " in each run: convert the model with all in int8, or all in float32"
        )
    return None


def check_support(source: Source) -> None:
    """Raises UnsupportedOp with a line for each node that cannot be compiled, BadModel where an input or output is no tensor of numbers."""
    graph = source.main
    for kind, indices in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor in (graph.tensors[index] for index in indices):
            if tensor.sparse:
                raise BadModel(f"{kind} {tensor.name!r} is stored sparse", at=source.at, hint="convert the model without sparsity")
            if tensor.dtype not in DTYPES - {"resource"}:
                what = f"{kind} {tensor.name!r} has element type {'string' if tensor.dtype == 'str' else tensor.dtype}"
                raise BadModel(what, at=source.at, hint="cut the model there; numbers only")
    found = [(graph.label(node), node.op, reason) for node in graph.nodes if (reason := reason_against(node, graph))]
    if found:
        raise unsupported(found, source.at)


def unsupported(found: list[tuple[str, str, str]], at: str) -> UnsupportedOp:
    """`found` are label, operator and reason of each node."""
    ops = sorted({op for _, op, _ in found})
    many = f"{len(ops)} operators are not supported here: {', '.join(ops)}"
    what = f"the operator {ops[0]} is not supported here" if len(ops) == 1 else many
    lines = "".join(f"\n    {label}: {reason}" for label, _, reason in found)
    return UnsupportedOp(what, at=f"{at}{lines}", hint="cut the model before them, or convert it without them")
