"""A .tflite file or its bytes -> Source: plain data, every offset and index in it checked.

Generated flatbuffer accessors trust the file, so they are used here and nowhere else. A damaged file may hold any offset, length or index:
Generated flatbuffer accessors trust the file, so they are used here and nowhere else. A damaged file may hold any offset, length or
before it is kept.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import tflite

from stack.errors import BadModel
from stack.frontends.tflite.graph import Affine, Array, Graph, Node, Source, Tensor
from stack.frontends.tflite.options import read_options

INCOMPLETE = "the download or copy may be incomplete: compare its size with the original's"
MAX_BYTES = 1 << 31  # of one tensor: what no flatbuffer can hold is a damaged dimension
DTYPES = {
    value: {"string": "str", "float32": "float32"}.get(name.lower(), name.lower())
    for name, value in vars(tflite.TensorType).items()
    if isinstance(value, int)
}
OPERATORS = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
PLACEHOLDER = 127  # in the old one-byte field of an operator whose code needs the new one
EXTERNAL = 2  # the smallest offset of a buffer that lies behind the flatbuffer; 0 and 1 mean that it does not


class Damaged(ValueError):
    """What is wrong with a file, found while reading."""


def read(model: str | Path | bytes) -> Source:
    """Read a model. Raises BadModel where it is no TFLite model or is damaged."""
    if isinstance(model, bytes):
        data, name, at = model, "model", "the bytes"
    else:
        file = Path(model)
        data, name, at = contents(file), file.stem, str(file)
    if data[4:8] != b"TFL3":
        hint = "this is a Git LFS pointer: run `git lfs pull`" if data.startswith(b"version https://git-lfs") else INCOMPLETE
        raise BadModel("the file is no TFLite model, or it is cut short", at=at, hint=hint)
    try:
        return Source(name, at, Reader(data).graphs())
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError, struct.error) as error:
        reason = str(error) if isinstance(error, Damaged) else "an offset or a length in it leads nowhere"
        raise BadModel(f"the model is damaged: {reason}", at=at, hint=INCOMPLETE) from error


def contents(file: Path) -> bytes:
    if not file.exists():
        raise BadModel(f"there is no file {file.name!r}", at=str(file), hint="give the path of a .tflite file")
    if file.is_dir():
        raise BadModel("this is a folder, not a model", at=str(file), hint="give the path of the .tflite file inside it")
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadModel(f"the file cannot be read: {error.strerror}", at=str(file)) from error


class Reader:
    """The model in `data`. `budget` falls with each item that is read: in a sound file no item is read twice."""

    def __init__(self, data: bytes) -> None:
        self.data, self.budget = data, len(data)
        self.model = tflite.Model.GetRootAs(data, 0)
        self.operators = [operator_name(code) for code in self.items(self.model, "OperatorCodes")]
        self.buffers = [self.buffer(item) for item in self.items(self.model, "Buffers")]

    def spend(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise Damaged("its tables overlap")

    def items(self, table: Any, field: str) -> list[Any]:
        """The tables in a vector."""
        length = getattr(table, f"{field}Length")()
        self.spend(4 * length)
        return [getattr(table, field)(index) for index in range(length)]

    def numbers(self, table: Any, field: str) -> Array:
        """A vector of numbers; what is absent is empty."""
        if not getattr(table, f"{field}Length")():
            return np.zeros(0, np.int64)
        values: Array = getattr(table, f"{field}AsNumpy")()
        self.spend(values.nbytes)
        return values

    def indices(self, table: Any, field: str, end: int, what: str, lowest: int = 0) -> tuple[int, ...]:
        found = tuple(int(index) for index in self.numbers(table, field))
        if any(not lowest <= index < end for index in found):
            raise Damaged(f"{what} has a tensor that is not there")
        return found

    def buffer(self, buffer: Any) -> Array | None:
        """Its bytes, which are not copied; None where it is empty."""
        if buffer.Offset() >= EXTERNAL:
            if buffer.Offset() + buffer.Size() > len(self.data):
                raise Damaged("a buffer ends behind the end of the file")
            return np.frombuffer(self.data, np.uint8, buffer.Size(), buffer.Offset())
        return np.asarray(buffer.DataAsNumpy()) if buffer.DataLength() else None

    def graphs(self) -> list[Graph]:
        graphs = [self.graph(item) for item in self.items(self.model, "Subgraphs")]
        if not graphs or not graphs[0].outputs:
            raise Damaged("it has no graph with outputs")
        return graphs

    def graph(self, table: Any) -> Graph:
        tensors: list[Tensor] = []
        names: set[str] = set()
        for item in self.items(table, "Tensors"):
            name = (item.Name() or b"").decode(errors="replace") or f"tensor_{len(tensors)}"
            name = name if name not in names else f"{name}_{len(tensors)}"
            names.add(name)
            tensors.append(self.tensor(item, name))
        inputs, outputs = (self.indices(table, field, len(tensors), "the graph") for field in ("Inputs", "Outputs"))
        if len(set(inputs)) < len(inputs):
            raise Damaged("an input is listed twice")
        nodes = [self.node(item, position, len(tensors)) for position, item in enumerate(self.items(table, "Operators"))]
        graph = Graph(tensors, nodes, inputs, outputs)
        check_order(graph)
        return graph

    def node(self, table: Any, position: int, tensors: int) -> Node:
        if table.OpcodeIndex() >= len(self.operators):
            raise Damaged(f"operator {position} has a code that is not there")
        op = self.operators[table.OpcodeIndex()]
        try:
            options = read_options(op, table)
        except ValueError as error:
            raise Damaged(f"operator {position}, {op}, has options that cannot be read") from error
        self.spend(sum(len(value) for value in options.values() if isinstance(value, list | str)))
        what = f"operator {position}, {op},"
        return Node(
            op,
            position,
            self.indices(table, "Inputs", tensors, what, lowest=-1),
            self.indices(table, "Outputs", tensors, what),
            options,
            self.indices(table, "Intermediates", tensors, what, lowest=-1),
        )

    def tensor(self, table: Any, name: str) -> Tensor:
        shape = tuple(int(extent) for extent in self.numbers(table, "Shape"))
        if any(extent < 0 for extent in shape):
            raise Damaged(f"tensor {name!r} has a negative dimension, {list(shape)}")
        if table.Type() not in DTYPES:
            raise Damaged(f"tensor {name!r} has an element type that is not known")
        dtype = DTYPES[table.Type()]
        size = int(np.prod(shape, dtype=object))
        if size * item_bytes(dtype) >= MAX_BYTES:
            raise Damaged(f"tensor {name!r} of shape {list(shape)} is larger than any file")
        if table.Buffer() >= max(len(self.buffers), 1):
            raise Damaged(f"tensor {name!r} has a buffer that is not there")
        value = self.value(table, name, shape, dtype)
        dtype = "int8" if dtype == "int4" else dtype
        open_shape = tuple(int(extent) for extent in self.numbers(table, "ShapeSignature"))
        return Tensor(
            name,
            shape,
            dtype,
            self.affine(table.Quantization(), name, shape, dtype),
            value,
            bool(table.IsVariable()),
            open_shape if len(open_shape) == len(shape) else None,
            table.Sparsity() is not None,
        )

    def value(self, table: Any, name: str, shape: tuple[int, ...], dtype: str) -> Array | None:
        """A constant's value. An empty buffer is that of a tensor which is computed, or of a constant without elements."""
        raw = self.buffers[table.Buffer()] if self.buffers else None
        if raw is None or table.Sparsity() is not None or item_bytes(dtype) == 0:
            return None
        size = int(np.prod(shape, dtype=np.int64))
        want = (size + 1) // 2 if dtype == "int4" else size * item_bytes(dtype)
        if raw.size != want:
            raise Damaged(f"constant {name!r} of shape {list(shape)} has {raw.size} bytes where {want} are needed")
        return unpack_int4(raw, size).reshape(shape) if dtype == "int4" else raw.view(dtype).reshape(shape)

    def affine(self, table: Any, name: str, shape: tuple[int, ...], dtype: str) -> Affine | None:
        if table is None or not table.ScaleLength() or dtype not in INTEGERS:
            return None
        scale = np.array(self.numbers(table, "Scale"), np.float32)
        zero_point = np.array(self.numbers(table, "ZeroPoint"), np.int64)
        zero_point = zero_point if zero_point.size else np.zeros(1, np.int64)
        axis, limits = table.QuantizedDimension(), np.iinfo(dtype)
        axis = 0 if len(shape) == 1 else axis  # files repeat the weights' axis for a bias
        if not np.isfinite(scale).all() or (scale < 0).any():
            raise Damaged(f"tensor {name!r} has a scale that is no positive number")
        if (zero_point < limits.min).any() or (zero_point > limits.max).any():
            raise Damaged(f"tensor {name!r} has a zero point beyond {dtype}")
        if zero_point.size not in (1, scale.size):
            raise Damaged(f"tensor {name!r} has {scale.size} scales and {zero_point.size} zero points")
        if scale.size > 1 and not (0 <= axis < len(shape) and shape[axis] == scale.size):
            raise Damaged(f"tensor {name!r} of shape {list(shape)} has {scale.size} scales for dimension {axis}")
        return Affine(scale, np.broadcast_to(zero_point, scale.shape).astype(np.int32), axis if scale.size > 1 else 0)


INTEGERS = ("int8", "uint8", "int16", "int32", "int64")


def item_bytes(dtype: str) -> int:
    """Zero for what has no numbers in it."""
    return 1 if dtype == "int4" else np.dtype(dtype).itemsize if dtype in (*INTEGERS, *OTHERS) else 0


OTHERS = ("bool", "float16", "float32", "float64", "uint16", "uint32", "uint64", "complex64", "complex128")


def unpack_int4(raw: Array, size: int) -> Array:
    """Two to a byte, the lower half first."""
    pairs = np.stack([raw << 4, raw], -1).reshape(-1)[:size]
    return pairs.view(np.int8) >> 4


def operator_name(code: Any) -> str:
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode() if code.DeprecatedBuiltinCode() != PLACEHOLDER else 0)
    if number not in OPERATORS:
        return f"operator code {number}"
    if OPERATORS[number] == "CUSTOM":
        return (code.CustomCode() or b"CUSTOM").decode(errors="replace")
    return OPERATORS[number]


def check_order(graph: Graph) -> None:
    """Raises Damaged where a node reads what is not there yet, or writes what is there already."""
    ready = {index for index, tensor in enumerate(graph.tensors) if tensor.value is not None or tensor.variable or 0 in tensor.shape}
    ready |= {index for index, tensor in enumerate(graph.tensors) if tensor.sparse or tensor.dtype == "str"}
    ready |= set(graph.inputs)
    written, known = set(graph.inputs), set(OPERATORS.values())
    for node in graph.nodes:
        for index in node.inputs if node.op in known else ():  # a custom operator may be handed scratch memory; it is refused by name
            if index >= 0 and index not in ready:
                raise Damaged(f"{graph.label(node)} reads {graph.tensors[index].name!r} before anything wrote it")
        for index in node.outputs:
            if index in written or graph.tensors[index].value is not None:
                raise Damaged(f"{graph.tensors[index].name!r} is written twice")
            written.add(index)
        ready |= set(node.outputs)
    for index in graph.outputs:
        if index not in ready:
            raise Damaged(f"nothing computes the output {graph.tensors[index].name!r}")
