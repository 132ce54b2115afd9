"""TFLite -> Relax: read, fix shapes, check, convert each operator."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stack.frontends.model import Model, Quantization
from stack.frontends.tflite.check_support import check_support
from stack.frontends.tflite.conversion import is_quantized
from stack.frontends.tflite.fix_shapes import fix_shapes
from stack.frontends.tflite.fold_dilation import fold_dilation
from stack.frontends.tflite.graph import Graph
from stack.frontends.tflite.read import read
from stack.frontends.tflite.states import find_states
from stack.frontends.tflite.to_relax import to_relax


def load(model: str | Path | bytes, shapes: Mapping[str, Sequence[int]]) -> Model:
    """Import a model from a file or from its bytes; `shapes` gives the dimensions that the model leaves open."""
    source = read(model)
    source = replace(source, graphs=[fold_dilation(source.main), *source.graphs[1:]])
    graph, inputs = source.main, fix_shapes(source, shapes)
    check_support(source)
    states = find_states(source)
    return Model(
        name=source.name,
        module=to_relax(source, inputs, states),
        input_names=[graph.tensors[index].name for index in graph.inputs],
        output_names=[graph.tensors[index].name for index in graph.outputs],
        states=states,
        quantization=quantization(graph),
    )


def quantization(graph: Graph) -> dict[str, Quantization]:
    """What the integers of inputs and outputs stand for."""
    found = {graph.tensors[index].name: graph.tensors[index] for index in (*graph.inputs, *graph.outputs)}
    return {
        name: Quantization(float(tensor.affine.scale[0]), int(tensor.affine.zero_point[0]))
        for name, tensor in found.items()
        if tensor.affine is not None and is_quantized(tensor)
    }
