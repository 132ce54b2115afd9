"""ONNX -> Relax: read, fix shapes, simplify to operators that we can import, check, import."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from stack.frontends.model import Model
from stack.frontends.onnx.check_support import check_support
from stack.frontends.onnx.fix_shapes import fix_shapes
from stack.frontends.onnx.read import read
from stack.frontends.onnx.simplify import simplify
from stack.frontends.onnx.to_relax import to_relax


def load(model: str | Path | onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> Model:
    """Import a model from a file or from memory; `shapes` fixes the inputs whose shapes the model leaves open."""
    source = read(model)
    inputs = fix_shapes(source.inputs, shapes, source.at)
    graph = simplify(source, inputs)
    check_support(graph, source.at)
    return Model(
        name=source.name,
        module=to_relax(graph, source.at),
        input_names=list(inputs),
        output_names=[output.name for output in source.proto.graph.output],
    )
