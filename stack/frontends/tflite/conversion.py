"""What a converter is given: one node, and its tensors as Relax expressions.

A quantised tensor is there in two forms: `stored` is the integers of the file, `real` the numbers that they stand for,

    real(x) = dequantize(x, scale, zero point)                scale and zero point are constants, as the file has them

and a converter of real numbers is followed by the node's activation and by `quantize` with the scale of its output. So each quantised
operator becomes an island of float operators between integers, which says exactly which integer kernel it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax

from relay_passes.fold_constants import fold_call
from relay_passes.rewrite import array, dtype, shape
from stack.frontends.tflite.graph import Affine, Array, Graph, Node, Tensor

QUANTIZED = ("int8", "uint8", "int16")
Converter = Callable[["Conversion"], relax.Expr | Sequence[relax.Expr]]


class Refused(Exception):
    """Why a node cannot be compiled, in the words that the user reads."""


def is_quantized(tensor: Tensor) -> bool:
    return tensor.affine is not None and tensor.dtype in QUANTIZED


def constant(value: Any, dtype: str | None = None) -> relax.Expr:
    """A constant of the array's own dtype: given an array, `relax.const` would narrow 64-bit types."""
    return relax.const(tvm.runtime.tensor(np.array(value, dtype, order="C")))


def dequantize(stored: relax.Expr, affine: Affine, dtype: str, axis: int | None = None) -> relax.Expr:
    scale, zero_point = parameters(affine, dtype)
    return relax.op.dequantize(stored, scale, zero_point, affine.axis if axis is None else axis)


def quantize(real: relax.Expr, affine: Affine, dtype: str) -> relax.Expr:
    scale, zero_point = parameters(affine, dtype)
    return relax.op.quantize(real, scale, zero_point, affine.axis, dtype)


def parameters(affine: Affine, dtype: str) -> tuple[relax.Expr, relax.Expr]:
    """Scalars where they hold for the whole tensor."""
    extents = () if affine.per_tensor else affine.scale.shape
    return constant(affine.scale.reshape(extents)), constant(affine.zero_point.reshape(extents), dtype)


@dataclass
class Conversion:
    """`states` hold what was last written to each variable of a streaming network; `handles` are the tensors that name variables."""

    builder: relax.BlockBuilder
    graph: Graph
    node: Node
    expressions: dict[int, relax.Expr]
    states: dict[str, relax.Expr]
    handles: Mapping[int, str]

    def has(self, index: int) -> bool:
        return index < len(self.node.inputs) and self.node.inputs[index] >= 0

    def tensor(self, index: int) -> Tensor:
        """What the file says of an input."""
        if not self.has(index):
            raise Refused(f"its input {index} is missing")
        return self.graph.tensors[self.node.inputs[index]]

    @property
    def inputs(self) -> list[Tensor]:
        return [self.graph.tensors[index] for index in self.node.inputs if index >= 0]

    @property
    def results(self) -> list[int]:
        """The outputs that are tensors and not handles of variables."""
        return [index for index in self.node.outputs if self.graph.tensors[index].dtype != "resource"]

    @property
    def outputs(self) -> list[Tensor]:
        return [self.graph.tensors[index] for index in self.results]

    def stored(self, index: int) -> relax.Expr:
        tensor = self.tensor(index)
        return self.states[tensor.name] if tensor.name in self.states and tensor.variable else self.expressions[self.node.inputs[index]]

    def set_state(self, name: str, value: relax.Expr) -> None:
        """What a variable holds from here on."""
        if shape(value) != shape(self.states[name]) or dtype(value) != dtype(self.states[name]):
            raise Refused(f"it writes {dtype(value)}{list(shape(value))} to {name!r}, which is {self.states[name].ty}")
        self.states[name] = value

    def real(self, index: int) -> relax.Expr:
        tensor = self.tensor(index)
        stored = self.stored(index)
        return self.emit(dequantize(stored, tensor.affine, tensor.dtype)) if tensor.affine and is_quantized(tensor) else stored

    def affine(self, index: int) -> Affine | None:
        """Of an input that is quantised."""
        tensor = self.tensor(index)
        return tensor.affine if is_quantized(tensor) else None

    def shape(self, index: int) -> tuple[int, ...]:
        return shape(self.stored(index))

    def axis(self, value: int, rank: int) -> int:
        """An axis, counted from the front."""
        if not -rank <= value < rank:
            raise Refused(f"its axis {value} is beyond the {rank} dimensions that there are")
        return value % rank

    def value(self, index: int) -> Array:
        """The value of an input that must be known."""
        value = array(self.stored(index))
        if value is None:
            raise Refused(f"its input {self.tensor(index).name!r} is computed, and only a constant can be compiled")
        return value

    def numbers(self, index: int) -> list[int]:
        """A constant of integers, as a list."""
        return [int(item) for item in self.value(index).reshape(-1)]

    def target(self, index: int) -> list[int]:
        """The shape of the result as an input gives it, or where that is computed, as the file has it."""
        return self.numbers(index) if array(self.stored(index)) is not None else list(self.outputs[0].shape)

    def option(self, name: str) -> Any:
        return self.node.options[name]

    def emit(self, expr: relax.Expr) -> relax.Expr:
        """`expr` bound to a variable, or its value where all that it reads is constant: shapes are computed so."""
        value = self.builder.normalize(expr)
        folded = fold_call(value) if isinstance(value, relax.Call) else value
        return self.builder.emit(value) if folded is None else folded

    def const(self, value: Any, dtype: str = "float32") -> relax.Expr:
        return constant(value, dtype)
