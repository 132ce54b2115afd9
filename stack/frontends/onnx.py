"""ONNX -> Relax: fix shapes, simplify with onnxslim, import with TVM."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnxslim
from tvm.relax.frontend.onnx import from_onnx

from stack.frontends.model import Model


def load(file: Path, shapes: Mapping[str, Sequence[int]]) -> Model:
    model = onnx.load(file)
    fixed = [f"{name}:{','.join(map(str, shape))}" for name, shape in shapes.items()]
    model = onnxslim.slim(model, input_shapes=fixed or None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the importer warns of each name it makes an identifier; we keep the model's names ourselves
        module = from_onnx(model, keep_params_in_input=False)
    weights = {weight.name for weight in model.graph.initializer}
    return Model(
        name=file.stem,
        module=module,
        input_names=[item.name for item in model.graph.input if item.name not in weights],
        output_names=[item.name for item in model.graph.output],
    )
