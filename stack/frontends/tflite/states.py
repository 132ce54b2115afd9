"""What a streaming network keeps from run to run: its variables and its variable tensors, and what they hold at first.

    VAR_HANDLE -> "h";  READ_VARIABLE(h), ASSIGN_VARIABLE(h, x)      a state "h", which starts as the graph that CALL_ONCE names assigns it
    SVDF(x, ..., state), where `state` is marked as variable         a state of the tensor's name

What nothing assigns at first starts as zero: for int8, the zero point, in each byte.
"""

from collections.abc import Iterator

import numpy as np

from stack.errors import BadModel
from stack.frontends.model import State
from stack.frontends.tflite.check_support import unsupported
from stack.frontends.tflite.graph import Array, Graph, Node, Source, Tensor


def find_handles(graph: Graph) -> dict[int, str]:
    """Which variable each tensor that VAR_HANDLE writes stands for."""
    return {node.outputs[0]: variable_name(node) for node in graph.nodes if node.op == "VAR_HANDLE" and node.outputs}


def variable_name(node: Node) -> str:
    container, name = node.options["container"] or "", node.options["shared_name"] or f"variable_{node.position}"
    return f"{container}/{name}" if container else str(name)


def find_states(source: Source) -> list[State]:
    """In the order in which the graph first names them. Raises BadModel, or UnsupportedOp where a first value is computed."""
    handles, graph = find_handles(source.main), source.main
    first = first_values(source)
    kinds = dict(variable_tensors(source, handles))
    states = [State(name, first.get(name, blank(tensor))) for name, tensor in kinds.items()]
    for state in states:
        declared = kinds[state.name]
        if (state.initial.shape, str(state.initial.dtype)) != (declared.shape, declared.dtype):
            raise BadModel(
                f"the variable {state.name!r} starts as {state.initial.dtype}{list(state.initial.shape)}"
                f" and is used as {declared.dtype}{list(declared.shape)}",
                at=source.at, hint="convert the model again",
            )  # fmt: skip
    read = {index for node in graph.nodes for index in node.inputs if index >= 0} | set(graph.outputs)
    tensors = (tensor for index, tensor in enumerate(graph.tensors) if tensor.variable and index in read and index not in graph.inputs)
    return states + [State(tensor.name, blank(tensor) if tensor.value is None else tensor.value) for tensor in tensors]


def variable_tensors(source: Source, handles: dict[int, str]) -> Iterator[tuple[str, Tensor]]:
    """Each variable and a tensor that was read from it or is assigned to it."""
    seen: set[str] = set()
    for node in source.main.nodes:
        name = handles.get(node.inputs[0]) if node.inputs else None
        ends = node.outputs[:1] if node.op == "READ_VARIABLE" else node.inputs[1:2] if node.op == "ASSIGN_VARIABLE" else ()
        if name is not None and name not in seen and ends and ends[0] >= 0:
            seen.add(name)
            yield name, source.main.tensors[ends[0]]


def first_values(source: Source) -> dict[str, Array]:
    """What the graphs that CALL_ONCE names assign to variables."""
    values: dict[str, Array] = {}
    for node in source.main.nodes:
        if node.op != "CALL_ONCE":
            continue
        position = node.options["init_subgraph_index"]
        if not 0 < position < len(source.graphs):
            raise BadModel(f"CALL_ONCE runs graph {position}, which is not there", at=source.at, hint="convert the model again")
        graph = source.graphs[position]
        handles = find_handles(graph)
        reason = "it computes the first value of a variable"
        computed = [(graph.label(inner), inner.op, reason) for inner in graph.nodes if not assigns(graph, inner)]
        if computed:
            raise unsupported(computed, source.at)
        for inner in graph.nodes:
            value = graph.tensors[inner.inputs[1]].value if inner.op == "ASSIGN_VARIABLE" else None
            if value is not None and inner.inputs[0] in handles:
                values[handles[inner.inputs[0]]] = value
    return values


def assigns(graph: Graph, node: Node) -> bool:
    if node.op == "ASSIGN_VARIABLE":
        return len(node.inputs) == 2 and min(node.inputs) >= 0 and graph.tensors[node.inputs[1]].value is not None
    return node.op == "VAR_HANDLE"


def blank(tensor: Tensor) -> Array:
    fill = int(tensor.affine.zero_point[0]) if tensor.affine is not None and tensor.dtype == "int8" else 0
    return np.full(tensor.shape, fill, tensor.dtype)
