"""What is known of a graph while it is simplified: its nodes in order, the type of each tensor, the values of the constant ones."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx


@dataclass(frozen=True)
class Node:
    """One operator and the opset that gives it its meaning: a function's body may be of an older one than the model."""

    proto: onnx.NodeProto
    opset: int

    @property
    def op(self) -> str:
        return f"{self.proto.domain}:{self.proto.op_type}" if self.proto.domain not in ("", "ai.onnx") else str(self.proto.op_type)

    @property
    def label(self) -> str:
        """How messages name it."""
        output = next((name for name in self.proto.output if name), "")
        return f"{self.op} {self.proto.name!r} (output {output!r})" if self.proto.name else f"{self.op} (output {output!r})"

    def has(self, name: str) -> bool:
        return any(attribute.name == name for attribute in self.proto.attribute)

    def attribute(self, name: str, default: Any = None) -> Any:
        """The attribute's value, of the type that the operator's definition gives it."""
        for attribute in self.proto.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def input(self, index: int) -> str:
        """The name of an input; "" where an optional one is left out."""
        return self.proto.input[index] if index < len(self.proto.input) else ""


@dataclass
class Graph:
    """`outputs` are the tensors to return, in the model's order; one may be an input, a constant, or another one again."""

    inputs: dict[str, onnx.TypeProto]
    outputs: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    types: dict[str, onnx.TypeProto] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The tensor's shape, where all of it is known."""
        if name in self.values:
            return self.values[name].shape
        kind = self.types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        dims = kind.tensor_type.shape.dim
        return tuple(dim.dim_value for dim in dims) if all(dim.HasField("dim_value") for dim in dims) else None

    def dtype(self, name: str) -> np.dtype | None:
        if name in self.values:
            return self.values[name].dtype
        kind = self.types.get(name)
        return None if kind is None or not kind.tensor_type.elem_type else onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type)
