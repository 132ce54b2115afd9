"""A model in any format that we read -> Relax, by the frontend for that format.

    "net.onnx", a ModelProto      ->   stack.frontends.onnx
    "net.tflite", bytes of one    ->   stack.frontends.tflite

Bytes and files of other names are told apart by their content: a TFLite model says so in its fifth to eighth byte.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from stack.errors import BadModel
from stack.frontends import onnx as onnx_frontend
from stack.frontends import tflite as tflite_frontend
from stack.frontends.model import Model

TFLITE_MARK = b"TFL3"


def load(model: str | Path | bytes | onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> Model:
    """Import a model from a file or from memory; `shapes` fixes the inputs whose shapes the model leaves open."""
    if isinstance(model, onnx.ModelProto):
        return onnx_frontend.load(model, shapes)
    if isinstance(model, bytes):
        if model[4:8] != TFLITE_MARK:
            raise BadModel("these bytes are no TFLite model", hint="give an ONNX model as a path or as a ModelProto")
        return tflite_frontend.load(model, shapes)
    return (tflite_frontend if is_tflite(Path(model)) else onnx_frontend).load(model, shapes)


def is_tflite(file: Path) -> bool:
    """By its name, or by its content where the name says nothing."""
    if file.suffix in (".onnx", ".tflite"):
        return file.suffix == ".tflite"
    try:
        with file.open("rb") as stream:
            return stream.read(8)[4:] == TFLITE_MARK
    except OSError:
        return False
