"""Small TFLite models for tests, as TFLite Micro's interpreter accepts them.

    data = model(
        inputs=[T("x", (1, 4, 4, 3), "int8", scale=0.5, zero_point=-3)],
        constants=[C("w", weights, scale=[0.1, 0.2], axis=0), C("b", bias)],         # numpy arrays: int8 [2, 3, 3, 3], int32 [2]
        ops=[op("CONV_2D", ["x", "w", "b"], ["y"], padding="SAME", stride_h=1, stride_w=1, fused_activation_function="RELU")],
        tensors=[T("y", (1, 4, 4, 2), "int8", scale=0.25, zero_point=7)],            # every result, in between and at the end
        outputs=["y"],
    )
    micro(data, [x])              # -> [y], by TFLite Micro
    Micro(data).run([x])          # the same, keeping the interpreter and its variables from call to call

Operators and options are named as in the schema, options in snake case; an input that is left out is None. `scale` and `zero_point` are
numbers, or lists of one for each slice of `axis`. Other subgraphs, which CALL_ONCE names by position, are `graph(...)` in `subgraphs`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite
from tflite_micro.python.tflite_micro import runtime

from stack.frontends.tflite.options import TABLES, fields, snake_case

Buffer = bytes | tuple[int, int]  # its content, or offset and size of one behind the flatbuffer
Numbers = float | Sequence[float] | None


@dataclass(frozen=True)
class T:
    """A tensor that is an input or is computed; `signature` has -1 for dimensions that may vary.

    The last two make odd files: a buffer by its position, and one that lies `external` (offset, size) behind the flatbuffer.
    """

    name: str
    shape: Sequence[int]
    dtype: str = "float32"
    scale: Numbers = None
    zero_point: int | Sequence[int] = 0
    axis: int = 0
    variable: bool = False
    signature: Sequence[int] | None = None
    data: bytes = b""
    buffer: int | None = None
    external: tuple[int, int] | None = None


def C(name: str, value: Any, scale: Numbers = None, zero_point: int | Sequence[int] = 0, axis: int = 0, dtype: str | None = None) -> T:
    """A constant. Two int4 values, which numpy does not have, are packed into a byte where `dtype` is "int4"."""
    array = np.asarray(value)
    data = array.tobytes()
    if dtype == "int4":
        flat = np.append(array.reshape(-1), np.zeros(array.size % 2, np.int8)).astype(np.uint8) & 15
        data = (flat[::2] | flat[1::2] << 4).astype(np.uint8).tobytes()
    return T(name, array.shape, dtype or str(array.dtype), scale, zero_point, axis, data=data)


@dataclass(frozen=True)
class Op:
    name: str
    inputs: Sequence[str | int | None]
    outputs: Sequence[str | int]
    options: dict[str, Any]


def op(name: str, inputs: Sequence[str | int | None], outputs: Sequence[str | int], **options: Any) -> Op:
    """Tensors by name; in odd files also by position."""
    return Op(name, inputs, outputs, options)


@dataclass(frozen=True)
class Graph:
    inputs: Sequence[T]
    ops: Sequence[Op]
    outputs: Sequence[str]
    tensors: Sequence[T] = field(default_factory=list)
    constants: Sequence[T] = field(default_factory=list)


graph = Graph


def model(
    inputs: Sequence[T],
    ops: Sequence[Op],
    outputs: Sequence[str],
    *,
    tensors: Sequence[T] = (),
    constants: Sequence[T] = (),
    subgraphs: Sequence[Graph] = (),
) -> bytes:
    return write([Graph(inputs, ops, outputs, tensors, constants), *subgraphs])


ENUMS = {"padding": {"SAME": 0, "VALID": 1}, "mode": {"REFLECT": 0, "SYMMETRIC": 1}}
ACTIVATIONS = {name: value for name, value in vars(tflite.ActivationFunctionType).items() if isinstance(value, int)}


def write(graphs: Sequence[Graph]) -> bytes:
    builder = flatbuffers.Builder(1024)
    codes: list[str] = []
    buffers: list[Buffer] = [b""]  # the first is that of tensors without a value
    tables = [write_graph(builder, item, codes, buffers) for item in graphs]
    subgraphs = offsets(builder, tables)
    operator_codes = offsets(builder, [operator_code(builder, name) for name in codes])
    stored = offsets(builder, [write_buffer(builder, data) for data in buffers])
    root = table(builder, "Model", Version=3, OperatorCodes=operator_codes, Subgraphs=subgraphs, Buffers=stored)
    builder.Finish(root, b"TFL3")
    return bytes(builder.Output())


def write_buffer(builder: flatbuffers.Builder, data: Buffer) -> int:
    if isinstance(data, tuple):
        return table(builder, "Buffer", Offset=data[0], Size=data[1])
    return table(builder, "Buffer", Data=aligned(builder, data)) if data else table(builder, "Buffer")


def write_graph(builder: flatbuffers.Builder, item: Graph, codes: list[str], buffers: list[Buffer]) -> int:
    listed = [*item.inputs, *item.constants, *item.tensors]
    places: dict[str | None, int] = {tensor.name: index for index, tensor in enumerate(listed)} | {None: -1}
    assert len(places) == len(listed) + 1, "two tensors have one name"
    tensors = offsets(builder, [write_tensor(builder, tensor, buffers) for tensor in listed])
    operators = offsets(builder, [write_operator(builder, node, places, codes) for node in item.ops])
    inputs = int32s(builder, [places[tensor.name] for tensor in item.inputs])
    outputs = int32s(builder, [places[name] for name in item.outputs])
    return table(
        builder, "SubGraph", Tensors=tensors, Inputs=inputs, Outputs=outputs, Operators=operators, Name=builder.CreateString("main")
    )  # fmt: skip


def write_tensor(builder: flatbuffers.Builder, tensor: T, buffers: list[Buffer]) -> int:
    given: dict[str, Any] = {"Name": builder.CreateString(tensor.name), "Shape": int32s(builder, tensor.shape)}
    if tensor.scale is not None:
        scale = np.atleast_1d(np.asarray(tensor.scale, np.float32))
        zero_point = np.broadcast_to(np.asarray(tensor.zero_point, np.int64), scale.shape)
        given["Quantization"] = table(
            builder,
            "QuantizationParameters",
            Scale=builder.CreateNumpyVector(scale),
            ZeroPoint=builder.CreateNumpyVector(np.ascontiguousarray(zero_point)),
            QuantizedDimension=tensor.axis,
        )
    if tensor.data:
        buffers.append(tensor.data)
        given["Buffer"] = len(buffers) - 1
    if tensor.external is not None:
        buffers.append(tensor.external)
        given["Buffer"] = len(buffers) - 1
    if tensor.buffer is not None:
        given["Buffer"] = tensor.buffer
    if tensor.signature is not None:
        given["ShapeSignature"] = int32s(builder, tensor.signature)
    return table(builder, "Tensor", Type=getattr(tflite.TensorType, tensor.dtype.upper()), IsVariable=tensor.variable, **given)


def write_operator(builder: flatbuffers.Builder, node: Op, places: dict[str | None, int], codes: list[str]) -> int:
    if node.name not in codes:
        codes.append(node.name)
    given: dict[str, Any] = {}
    if node.name in TABLES:
        name = f"{TABLES[node.name]}Options"
        named = {snake_case(option): option for option in fields(getattr(tflite, name))}
        values = {named[key]: option_value(builder, key, value) for key, value in node.options.items()}
        given = {"BuiltinOptionsType": getattr(tflite.BuiltinOptions, name), "BuiltinOptions": table(builder, name, **values)}
    else:
        assert not node.options, f"{node.name} has no options"
    inputs, outputs = (
        int32s(builder, [name if isinstance(name, int) else places[name] for name in names]) for names in (node.inputs, node.outputs)
    )
    return table(builder, "Operator", OpcodeIndex=codes.index(node.name), Inputs=inputs, Outputs=outputs, **given)


def operator_code(builder: flatbuffers.Builder, name: str) -> int:
    code = getattr(tflite.BuiltinOperator, name, None)
    if code is None:
        custom = builder.CreateString(name)
        return table(builder, "OperatorCode", DeprecatedBuiltinCode=32, BuiltinCode=32, CustomCode=custom, Version=1)
    return table(builder, "OperatorCode", DeprecatedBuiltinCode=min(code, 127), BuiltinCode=code, Version=1)


def option_value(builder: flatbuffers.Builder, key: str, value: Any) -> Any:
    if isinstance(value, str):
        names = ACTIVATIONS if key == "fused_activation_function" else ENUMS.get(key)
        if names is None and key.endswith("type"):
            return getattr(tflite.TensorType, value.upper())
        return builder.CreateString(value) if names is None else names[value]
    return int32s(builder, value) if isinstance(value, list | tuple) else value


def table(builder: flatbuffers.Builder, name: str, **given: Any) -> int:
    """A table of the schema; vectors, strings and tables in `given` are offsets, which have to be made before."""
    getattr(tflite, f"{name}Start")(builder)
    for key, value in given.items():
        getattr(tflite, f"{name}Add{key}")(builder, value)
    return int(getattr(tflite, f"{name}End")(builder))


def offsets(builder: flatbuffers.Builder, tables: Sequence[int]) -> int:
    builder.StartVector(4, len(tables), 4)
    for offset in reversed(tables):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def int32s(builder: flatbuffers.Builder, values: Sequence[int]) -> int:
    return int(builder.CreateNumpyVector(np.asarray(values, np.int32).reshape(-1)))


def aligned(builder: flatbuffers.Builder, data: bytes) -> int:
    """Bytes on a multiple of 16, where kernels may want them."""
    builder.StartVector(1, len(data), 16)
    builder.head = builder.Head() - len(data)
    builder.Bytes[builder.Head() : builder.Head() + len(data)] = data
    return int(builder.EndVector())


class Micro:
    """TFLite Micro's interpreter of a model."""

    def __init__(self, data: bytes, arena: int = 1 << 22, keep: bool = False) -> None:
        """`keep` leaves every tensor where `tensor` finds it."""
        kinds = runtime.InterpreterConfig
        config = kinds.kPreserveAllTensors if keep else kinds.kAllocationRecording
        self.interpreter = runtime.Interpreter.from_bytes(data, arena_size=arena, intrepreter_config=config)
        self.outputs = tflite.Model.GetRootAs(data, 0).Subgraphs(0).OutputsLength()

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        for index, array in enumerate(arrays):
            self.interpreter.set_input(array, index)
        self.interpreter.invoke()
        return [np.array(self.interpreter.get_output(index)) for index in range(self.outputs)]

    def tensor(self, index: int) -> np.ndarray:
        return np.array(self.interpreter.GetTensor(index, 0)["tensor_data"])

    def reset(self) -> None:
        self.interpreter.reset()


def micro(data: bytes, arrays: Sequence[np.ndarray], arena: int = 1 << 22) -> list[np.ndarray]:
    return Micro(data, arena).run(arrays)
