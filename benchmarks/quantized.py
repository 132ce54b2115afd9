"""Write quantised models in QDQ form, as ONNX Runtime's own tool makes them of models of the zoo.

    python benchmarks/quantized.py DIR

Weights are signed bytes with a scale for each filter, activations unsigned bytes, and signed ones in the models that end in `-s8`. The tool
looks at a few inputs, drawn from a seed, to see how large activations become.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import zoo
from onnx import version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

CALIBRATION = 4  # inputs
OPSET = 17  # scales for each filter are known from 13 on
MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet50": lambda: zoo.light("resnet50"),
    "mobilenetv2": zoo.mobilenetv2,
    "encoder": zoo.encoder,
}
KINDS = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}


class Drawn(CalibrationDataReader):
    """Standard normal inputs."""

    def __init__(self, inputs: dict[str, list[int]], seed: int = 0, count: int = CALIBRATION) -> None:
        self.rng, self.inputs, self.left = np.random.default_rng(seed), inputs, count

    def get_next(self) -> dict[str, np.ndarray] | None:
        if not self.left:
            return None
        self.left -= 1
        return {name: self.rng.standard_normal(shape).astype(np.float32) for name, shape in self.inputs.items()}


def inputs_of(model: onnx.ModelProto) -> dict[str, list[int]]:
    constants = {item.name for item in model.graph.initializer}
    return {
        item.name: [dim.dim_value for dim in item.type.tensor_type.shape.dim] for item in model.graph.input if item.name not in constants
    }


def modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in an opset that knows scales for each filter, its weights no longer inputs."""
    constants = {item.name for item in model.graph.initializer}
    kept = [item for item in model.graph.input if item.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model if model.opset_import[0].version >= OPSET else version_converter.convert_version(model, OPSET)


def quantize(model: onnx.ModelProto, file: Path, activations: QuantType = QuantType.QUInt8, per_channel: bool = True) -> None:
    """Write `model` to `file` in QDQ form: batch normalisations folded first, as the tool wants it."""
    model = modern(model)
    with tempfile.TemporaryDirectory() as scratch:
        plain, ready = Path(scratch) / "plain.onnx", Path(scratch) / "ready.onnx"
        onnx.save(model, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            file,
            Drawn(inputs_of(model)),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=activations,
            weight_type=QuantType.QInt8,
        )


def write_quantized(folder: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """Write the models into `folder`, and `shapes.json` beside them. Returns the input shapes to fix, by model: none, they are known."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, make in MODELS.items():
        for kind, activations in KINDS.items():
            quantize(make(), folder / f"{name}-{kind}.onnx", activations)
            shapes[f"{name}-{kind}"] = {}
    (folder / "shapes.json").write_text(json.dumps(shapes, indent=1))
    return shapes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    written = write_quantized(parser.parse_args().folder)
    print(f"{len(written)} models: {', '.join(written)}")
