"""A checked graph -> Relax, one operator at a time, each result compared with what the file says of it."""

from collections.abc import Mapping

import numpy as np
import tvm
from tvm import relax

from relay_passes.rewrite import dtype, is_tensor, shape
from stack.frontends.model import State
from stack.frontends.tflite.check_support import DTYPES, unsupported
from stack.frontends.tflite.conversion import Conversion, Refused, constant, is_quantized, quantize
from stack.frontends.tflite.graph import Source, Tensor
from stack.frontends.tflite.operators import REAL, STORED
from stack.frontends.tflite.operators.activations import activate
from stack.frontends.tflite.states import find_handles


def to_relax(source: Source, shapes: Mapping[int, tuple[int, ...]], states: list[State]) -> tvm.IRModule:
    """One function `main` over inputs and states. Raises UnsupportedOp naming every node that a converter refuses."""
    graph = source.main
    handles = find_handles(graph)
    resized = any(graph.tensors[index].shape != extents for index, extents in shapes.items())
    failed: list[tuple[str, str, str]] = []
    builder = relax.BlockBuilder()
    inputs = [relax.Var(f"input_{i}", relax.TensorType(shapes[index], graph.tensors[index].dtype)) for i, index in enumerate(graph.inputs)]
    kept = [relax.Var(f"state_{i}", relax.TensorType(state.initial.shape, str(state.initial.dtype))) for i, state in enumerate(states)]
    expressions: dict[int, relax.Expr] = dict(zip(graph.inputs, inputs, strict=True))
    current = {state.name: variable for state, variable in zip(states, kept, strict=True)}
    expressions |= {index: constant(tensor.value) for index, tensor in enumerate(graph.tensors) if tensor.value is not None}
    expressions |= {index: constant(np.zeros(tensor.shape, tensor.dtype)) for index, tensor in enumerate(graph.tensors) if is_empty(tensor)}

    def result_of(index: int) -> relax.Expr:
        name = graph.tensors[index].name
        return current[name] if graph.tensors[index].variable and name in current else expressions[index]

    with builder.function("main", [*inputs, *kept]):
        with builder.dataflow():
            for node in graph.nodes:
                conversion = Conversion(builder, graph, node, expressions, current, handles)
                try:
                    results = convert(conversion)
                    if not resized:
                        expect_types(conversion, results)
                except Exception as error:  # Relax raises many types
                    failed.append((graph.label(node), node.op, one_line(error)))
                    results = [stand_in(tensor) for tensor in conversion.outputs]
                expressions |= dict(zip(conversion.results, results, strict=True))
            results = [result_of(index) for index in graph.outputs] + [current[state.name] for state in states]
            result = builder.emit_output(results[0] if len(results) == 1 else relax.Tuple(results))
        builder.emit_func_output(result)
    if failed:
        raise unsupported(failed, source.at)
    return builder.get()


def convert(c: Conversion) -> list[relax.Expr]:
    """The results of a node as they are stored."""
    op = c.node.op
    value = (REAL if op in REAL else STORED)[op](c)
    results = [c.emit(item) for item in ([value] if isinstance(value, relax.Expr) else value)]
    if len(results) == 1 and isinstance(results[0].ty, relax.TupleType):
        results = [c.emit(relax.TupleGetItem(results[0], index)) for index in range(len(results[0].ty.fields))]
    if len(results) != len(c.outputs):
        raise Refused(f"it has {len(c.outputs)} results, not {len(results)}")
    if op in REAL:
        kind = c.node.options.get("fused_activation_function", 0)
        results = [finish(c, result, kind, tensor) for result, tensor in zip(results, c.outputs, strict=True)]
    return results


def finish(c: Conversion, real: relax.Expr, kind: int, tensor: Tensor) -> relax.Expr:
    """Activation and quantisation of a result."""
    real = c.emit(activate(kind, real)) if kind else real
    if tensor.affine is None or not is_quantized(tensor) or dtype(real) != "float32":
        return real
    return c.emit(quantize(real, tensor.affine, tensor.dtype))


def expect_types(c: Conversion, results: list[relax.Expr]) -> None:
    """Refuse a result whose shape or dtype is not the one that the file gives: the converter misread the operator, or the file is wrong."""
    for tensor, result in zip(c.outputs, results, strict=True):
        if not is_tensor(result):
            raise Refused("the shape of its result is not known when compiling")
        if shape(result) != tensor.shape:
            raise Refused(f"its result becomes {list(shape(result))} where the file has {list(tensor.shape)}")
        if dtype(result) != tensor.dtype:
            raise Refused(f"its result becomes {dtype(result)} where the file has {tensor.dtype}")


def is_empty(tensor: Tensor) -> bool:
    """A constant without elements has no buffer to be known by."""
    return 0 in tensor.shape and tensor.value is None and tensor.dtype in DTYPES - {"resource"}


def stand_in(tensor: Tensor) -> relax.Expr:
    """A tensor of the expected type, so that one failure does not hide the next."""
    return relax.Var("failed", relax.TensorType(tensor.shape, "float32" if tensor.dtype == "resource" else tensor.dtype))


def one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("tvm.error.InternalError: ") if lines else type(error).__name__
