"""Compute one node whose inputs are all known, with ONNX's own reference evaluator."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from stack.frontends.onnx.graph import Node

RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
INTEGER_FORM = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}  # where integer weights meet floats: passes want to see them
FOLD_SIZE = 1 << 20  # elements; a constant with more than this, and more than it is made from, costs more in the library than to compute


def evaluate(node: Node, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """The node's outputs, or None where it must stay in the graph."""
    if node.op in RANDOM or node.op in INTEGER_FORM or any(attribute.HasField("g") for attribute in node.proto.attribute):
        return None
    given = {name: array for name, array in zip(node.proto.input, inputs, strict=True) if name and array is not None}
    outputs = [name for name in node.proto.output if name]
    graph = helper.make_graph([node.proto], "constant", [value_info(*item) for item in given.items()], [unknown(name) for name in outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", node.opset)])
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, given)
    except Exception:  # the evaluator raises many types for what it does not implement; the importer may
        return None
    assert isinstance(results, list)
    if not all(isinstance(array, np.ndarray | np.generic) for array in results):
        return None
    return [np.asarray(array) for array in results]


def worth_folding(inputs: Sequence[np.ndarray | None], size: int) -> bool:
    """Whether a result of `size` elements should become a constant."""
    return size <= max(FOLD_SIZE, sum(array.size for array in inputs if array is not None))


def value_info(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def unknown(name: str) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto(name=name)
