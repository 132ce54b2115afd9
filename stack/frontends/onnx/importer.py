"""TVM's ONNX converters, one operator at a time."""

from collections.abc import Callable
from typing import Any

from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as tvm_onnx

from stack.frontends.onnx.graph import Node

CONVERTERS: dict[str, Any] = tvm_onnx._get_convert_map()  # private, but pinned with TVM's version and covered by the tests


# operators whose converter means another one of the same name, or computes only some of the results: their definitions are used instead
FOREIGN = {"Attention", "RMSNormalization"}
FIRST_RESULT_ONLY = {"LayerNormalization"}


def imports(node: Node) -> bool:
    """Whether there is a converter for the operator at its opset."""
    if node.op not in CONVERTERS or node.op in FOREIGN or (node.op in FIRST_RESULT_ONLY and len(node.proto.output) > 1):
        return False
    try:
        CONVERTERS[node.op].get_converter(node.opset)
    except NotImplementedError:
        return False
    return True


def converter(node: Node) -> Callable[..., relax.Expr]:
    found: Callable[..., relax.Expr] = CONVERTERS[node.op].get_converter(node.opset)
    return found
