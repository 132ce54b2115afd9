"""A simplified graph -> Relax, one operator at a time, each result checked against the type that ONNX gives it."""

import warnings
from typing import Any

import numpy as np
import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as tvm_onnx

from stack.frontends.onnx.check_support import DATA_DEPENDENT, unsupported
from stack.frontends.onnx.graph import Graph, Node
from stack.frontends.onnx.importer import converter
from stack.frontends.onnx.plain_operators import CONVERTERS


def to_relax(graph: Graph, at: str) -> tvm.IRModule:
    """One function `main`. Raises UnsupportedOp naming every node that the importer refuses or makes something else of."""
    failed: list[tuple[Node, str]] = []
    lost: set[str] = set()  # tensors whose shape is unknown because of a failure: what follows from them is not to blame
    builder = relax.BlockBuilder()
    tensors: dict[str, relax.Expr] = {}
    for index, (name, kind) in enumerate(graph.inputs.items()):
        tensors[name] = relax.Var(f"input_{index}", relax.TensorType(graph.shape(name), dtype_of(kind)))
    inputs = list(tensors.values())
    tensors |= {name: constant(array) for name, array in graph.values.items()}
    with builder.function("main", inputs):
        with builder.dataflow():
            for node in graph.nodes:
                names = [name for name in node.proto.output if name]
                open_shape = any(graph.shape(name) is None for name in names)
                results = [stand_in(graph, name) for name in node.proto.output]
                if lost.intersection(node.proto.input):
                    lost.update(names)
                else:
                    try:
                        results = checked(graph, node, convert(builder, node, tensors))
                    except Exception as error:  # the importer raises many types
                        failed.append((node, DATA_DEPENDENT if open_shape else one_line(error)))
                        lost.update(names if open_shape else ())
                tensors |= dict(zip(node.proto.output, results, strict=False))
            outputs = [tensors[name] for name in graph.outputs]
            result = builder.emit_output(outputs[0] if len(outputs) == 1 else relax.Tuple(outputs))
        builder.emit_func_output(result)
    if failed:
        raise unsupported(failed, at)
    return builder.get()


def convert(builder: relax.BlockBuilder, node: Node, tensors: dict[str, relax.Expr]) -> list[relax.Expr]:
    inputs = tvm_onnx.onnx_input()
    for name in node.proto.input:
        inputs.append(tensors[name] if name else None)
    attributes: dict[str, Any] = {item.name: attribute_value(item) for item in node.proto.attribute}
    attributes["tvm_custom"] = {"name": node.proto.name, "num_outputs": len(node.proto.output)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints to TVM's developers
        value = CONVERTERS[node.op](builder, inputs, attributes, node.opset) if node.op in CONVERTERS else None
        if value is None:
            value = converter(node)(builder, inputs, attributes, [tensors, {}])
    value = builder.normalize(value)
    if isinstance(value, relax.Tuple):
        return [builder.emit(item) for item in value.fields]
    value = builder.emit(value)
    if isinstance(value.ty, relax.TupleType):
        return [builder.emit(relax.TupleGetItem(value, index)) for index in range(len(value.ty.fields))]
    return [value]


def constant(array: np.ndarray) -> relax.Expr:
    return relax.const(tvm.runtime.tensor(np.asarray(array, order="C")))  # given an array, it would narrow 64-bit types


def attribute_value(attribute: onnx.AttributeProto) -> Any:
    """As the converters want it: lists as tuples, tensors and strings as they are."""
    value = onnx.helper.get_attribute_value(attribute)
    return tuple(value) if isinstance(value, list) else value


def dtype_of(kind: onnx.TypeProto) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type))


def checked(graph: Graph, node: Node, results: list[relax.Expr]) -> list[relax.Expr]:
    names = list(node.proto.output)
    if any(names[len(results) :]):
        raise TypeError(f"only {len(results)} of its {len(names)} results can be computed")
    for name, result in zip(names, results, strict=False):
        if name:
            expect_type(graph, name, result)
    return results


def expect_type(graph: Graph, name: str, value: relax.Expr) -> None:
    """Refuse a result whose shape or dtype is not the one that ONNX infers: the converter misread the operator."""
    if not isinstance(value.ty, relax.TensorType):
        raise TypeError(f"it becomes {value.ty}, not a tensor")
    shape = value.ty.shape
    if not isinstance(shape, relax.ShapeExpr) or not all(isinstance(extent, tvm.tirx.IntImm) for extent in shape.values):
        raise TypeError(f"the shape of its result, {shape}, is not known when compiling")
    got, want = tuple(int(extent) for extent in shape.values), graph.shape(name)
    if want is not None and got != want:
        raise TypeError(f"its result becomes {list(got)} where ONNX has {list(want)}")
    dtype = graph.dtype(name)
    if dtype is not None and str(value.ty.dtype.dtype) != str(dtype):
        raise TypeError(f"its result becomes {value.ty.dtype} where ONNX has {dtype}")


def stand_in(graph: Graph, name: str) -> relax.Expr:
    """A tensor of the expected type, so that one failure does not hide the next."""
    return relax.Var("failed", relax.TensorType(graph.shape(name) or (1,), str(graph.dtype(name) or "float32")))


def one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("tvm.error.InternalError: ") if lines else type(error).__name__
