"""A file or a ModelProto -> Source: the graph without its weights, and the weights as arrays beside it.

    model.onnx (+ model.onnx.data)   ->   proto: nodes, inputs, outputs; weights: {"w": array, ...}

Protobuf cannot serialise more than 2 GB, so from here on no message holds a weight: what shape inference and the evaluator serialise
stays small however large the model is. Weights that lie in files beside the model are mapped, not read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, Message
from onnx import numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from stack.errors import BadModel


@dataclass(frozen=True)
class Source:
    """What was read: `at` says where it came from in messages; `folder` is where external data lies, None for a model from memory."""

    name: str
    at: str
    folder: Path | None
    proto: onnx.ModelProto
    weights: dict[str, np.ndarray]

    @property
    def inputs(self) -> list[onnx.ValueInfoProto]:
        """The inputs a caller gives; old files list their weights among them."""
        return [item for item in self.proto.graph.input if item.name not in self.weights]

    @property
    def opset(self) -> int:
        return next((entry.version for entry in self.proto.opset_import if entry.domain in ("", "ai.onnx")), 1)


def read(model: str | Path | onnx.ModelProto) -> Source:
    """Read a model and take its weights out. Raises BadModel where it is no ONNX model or its weights are missing."""
    if isinstance(model, onnx.ModelProto):
        proto, name, at, folder = model, model.graph.name or "model", "the ModelProto", None
    else:
        file = Path(model)
        proto, name, at, folder = parse(file), file.stem, str(file), file.parent
    check_text(proto, at)
    graph = proto.graph
    if not graph.output or not (graph.node or graph.initializer or graph.input):
        raise BadModel("the model's graph is empty", at=at, hint="export it again; a complete graph has nodes and outputs")
    weights = {tensor.name: to_array(tensor, folder, at) for tensor in graph.initializer}
    weights |= {tensor.values.name: densify(tensor, folder, at) for tensor in graph.sparse_initializer}
    return Source(name, at, folder, inline_functions(without_weights(proto, weights)), weights)


def parse(file: Path) -> onnx.ModelProto:
    if not file.exists():
        raise BadModel(f"there is no file {file.name!r}", at=str(file), hint="give the path of an .onnx file")
    if file.is_dir():
        raise BadModel("this is a folder, not a model", at=str(file), hint="give the path of the .onnx file inside it")
    proto = onnx.ModelProto()
    try:
        data = file.read_bytes()
        proto.ParseFromString(data)
    except OSError as error:
        raise BadModel(f"the file cannot be read: {error.strerror}", at=str(file)) from error
    except DecodeError as error:
        hint = (
            "this is a Git LFS pointer: run `git lfs pull`"
            if data.startswith(b"version https://git-lfs")
            else ("the download or copy may be incomplete: compare its size with the original's")
        )
        raise BadModel("the file is no ONNX model, or it is cut short", at=str(file), hint=hint) from error
    if not proto.ir_version or not proto.HasField("graph"):  # other protobuf formats parse as a message of unknown fields
        raise BadModel("the file is no ONNX model, or it is cut short", at=str(file), hint="export the model to ONNX (.onnx)")
    return proto


def check_text(message: Message, at: str) -> None:
    """Raises BadModel where a name is no text: protobuf reads it as bytes, and nothing else here expects those."""
    for field, value in message.ListFields():
        items = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
        if field.type == field.TYPE_MESSAGE:
            for item in items:
                check_text(item, at)
        elif field.type == field.TYPE_STRING and any(isinstance(item, bytes) for item in items):
            raise BadModel(f"the model is damaged: its field {field.name!r} is no text", at=at, hint="compare its size with the original's")


def to_array(tensor: onnx.TensorProto, folder: Path | None, at: str) -> np.ndarray:
    """The tensor's values; a read-only map of the file where they are external."""
    try:
        array = map_external(tensor, folder, at) if uses_external_data(tensor) else numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        reason = f"element type {error} is not known" if isinstance(error, KeyError) else str(error).split("\n")[0]
        raise BadModel(f"weight {tensor.name!r} is damaged: {reason}", at=at, hint="export the model again") from error
    return np.asarray(array)


def map_external(tensor: onnx.TensorProto, folder: Path | None, at: str) -> np.ndarray:
    info = ExternalDataInfo(tensor)
    if folder is None:
        raise BadModel(
            f"weight {tensor.name!r} lies in a file, {info.location!r}, that a ModelProto does not lead to",
            at=at, hint="give the path of the .onnx file, or read it with onnx.load(path), which loads the weights too",
        )  # fmt: skip
    file = folder / info.location
    if Path(info.location).is_absolute() or not file.resolve().is_relative_to(folder.resolve()):
        where = f"{at}: {info.location}"
        raise BadModel(f"weight {tensor.name!r} lies outside the model's folder", at=where, hint="put both in one folder")
    if not file.is_file():
        raise BadModel(f"the file of weights {info.location!r} is missing", at=at, hint=f"put it beside the model, as {file}")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    offset, count = int(info.offset or 0), int(np.prod(tensor.dims, dtype=np.int64))
    packed = {onnx.TensorProto.INT4, onnx.TensorProto.UINT4, onnx.TensorProto.FLOAT4E2M1}
    size = -(-count // 2) if tensor.data_type in packed else count * dtype.itemsize
    if file.stat().st_size < offset + size:
        raise BadModel(
            f"the file of weights {info.location!r} is too short: weight {tensor.name!r} ends at byte {offset + size},"
            f" the file at {file.stat().st_size}",
            at=at, hint="the download or copy may be incomplete",
        )  # fmt: skip
    if not count:
        return np.empty(tuple(tensor.dims), dtype)
    raw = np.memmap(file, np.uint8, "r", offset, (size,))
    if tensor.data_type in packed:
        whole = onnx.TensorProto(dims=tensor.dims, data_type=tensor.data_type, raw_data=raw.tobytes())
        return numpy_helper.to_array(whole)
    return raw.view(dtype).reshape(tuple(tensor.dims))


def densify(tensor: onnx.SparseTensorProto, folder: Path | None, at: str) -> np.ndarray:
    values, indices = to_array(tensor.values, folder, at), to_array(tensor.indices, folder, at)
    dense = np.zeros(tuple(tensor.dims), values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense


def without_weights(proto: onnx.ModelProto, weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A copy that declares the weights as inputs."""
    graph = onnx.GraphProto(name=proto.graph.name or "main", node=proto.graph.node, output=proto.graph.output)
    graph.input.extend(item for item in proto.graph.input if item.name not in weights)
    for name, array in weights.items():
        graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
    return onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions, graph=graph)


def inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Replace calls of the model's own functions, which PyTorch's exporter writes for modules, by their bodies."""
    return onnx.inliner.inline_local_functions(proto, convert_version=True) if proto.functions else proto
