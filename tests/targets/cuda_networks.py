"""Small networks for GPU tests, and a process that runs a CUDA library with a stand-in for the NVIDIA driver (cuda_on_cpu/)."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stack import manifest as manifests

ON_CPU = Path(__file__).parent / "cuda_on_cpu"
ROOT = Path(__file__).parents[2]
FLOAT = TensorProto.FLOAT
skips: list[str] = []

RUN = """
import sys, numpy as np, stack
library = stack.load(sys.argv[1])
inputs = dict(np.load(sys.argv[2]))
try:
    outputs = library.run(inputs)
    again = library.run(inputs)  # the memory of the first call
    assert all((outputs[name] == again[name]).all() for name in outputs)
    assert len(library.profile(inputs)) == len(library.manifest["operators"])
except (stack.StackError, MemoryError) as error:
    sys.exit(str(error))
np.savez(sys.argv[3], **outputs)
"""


def skip_aloud(reason: str) -> None:
    skips.append(reason)
    pytest.skip(reason)


def weights(**shapes: tuple[int, ...]) -> list[TensorProto]:
    rng = np.random.default_rng(0)
    return [numpy_helper.from_array(rng.standard_normal(shape, np.float32) / 3, name) for name, shape in shapes.items()]


def model(name: str, nodes: list[onnx.NodeProto], initializers: list[TensorProto], inputs: dict, outputs: dict) -> onnx.ModelProto:
    ends = [[helper.make_tensor_value_info(end, FLOAT, shape) for end, shape in side.items()] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, name, *ends, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def cnn() -> onnx.ModelProto:
    """Each kind of convolution, a residual, pooling and a classifier; one output is another one under a second name."""
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c1"], ["features"]),
        node("Identity", ["features"], ["again"]),
        node("Conv", ["features", "w2"], ["c2"], pads=[1, 1, 1, 1], group=8),
        node("Conv", ["c2", "w3", "b3"], ["c3"]),
        node("Add", ["c3", "features"], ["sum"]),
        node("MaxPool", ["sum"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["pooled"], ["mean"]),
        node("Flatten", ["mean"], ["flat"]),
        node("Gemm", ["flat", "w4", "b4"], ["scores"], transB=1),
        node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    constants = weights(w1=(8, 3, 3, 3), b1=(8,), w2=(8, 1, 3, 3), w3=(8, 8, 1, 1), b3=(8,), w4=(10, 8), b4=(10,))
    outputs = {"features": (1, 8, 8, 8), "again": (1, 8, 8, 8), "probabilities": (1, 10)}
    return model("cnn", nodes, constants, {"image": (1, 3, 16, 16)}, outputs)


def attention() -> onnx.ModelProto:
    """One block of a transformer: 2 heads of 8, 6 tokens, layer norm, GELU."""
    node = helper.make_node
    nodes, heads = [], {"q": [0, 2, 1, 3], "k": [0, 2, 3, 1], "v": [0, 2, 1, 3]}
    for part, order in heads.items():
        nodes += [
            node("MatMul", ["tokens", f"w{part}"], [f"{part}1"]),
            node("Reshape", [f"{part}1", "split"], [f"{part}2"]),
            node("Transpose", [f"{part}2"], [f"{part}3"], perm=order),
        ]
    nodes += [
        node("MatMul", ["q3", "k3"], ["scores"]),
        node("Div", ["scores", "scale"], ["scaled"]),
        node("Softmax", ["scaled"], ["weights"], axis=-1),
        node("MatMul", ["weights", "v3"], ["mixed"]),
        node("Transpose", ["mixed"], ["mixed_t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["mixed_t", "join"], ["joined"]),
        node("Add", ["joined", "tokens"], ["sum"]),
        node("LayerNormalization", ["sum", "gamma", "beta"], ["norm"], axis=-1, epsilon=1e-5),
        node("Div", ["norm", "root2"], ["half"]),
        node("Erf", ["half"], ["erf"]),
        node("Add", ["erf", "one"], ["erf1"]),
        node("Mul", ["norm", "erf1"], ["out"]),
    ]
    constants = weights(wq=(16, 16), wk=(16, 16), wv=(16, 16), gamma=(16,), beta=(16,))
    constants += [numpy_helper.from_array(np.array(shape), name) for name, shape in (("split", (1, 6, 2, 8)), ("join", (1, 6, 16)))]
    scalars = {"scale": 8**0.5, "root2": 2**0.5, "one": 1.0}
    constants += [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in scalars.items()]
    return model("attention", nodes, constants, {"tokens": (1, 6, 16)}, {"out": (1, 6, 16)})


MODELS = {"cnn": cnn(), "attention": attention()}


def example_inputs(network: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        value.name: rng.standard_normal([dim.dim_value for dim in value.type.tensor_type.shape.dim], np.float32)
        for value in network.graph.input
    }


@dataclass(frozen=True)
class Build:
    """A saved library, and the CUDA source of its kernels."""

    network: onnx.ModelProto
    folder: Path
    source: str


def fake_driver(source: str, folder: Path) -> Path:
    """Build the kernels of `source` and the stand-in for the driver into one libcuda.so.1; returns its folder."""
    (folder / "kernels.cpp").write_text(source)
    compiler = shutil.which("g++") or shutil.which("c++") or "c++"
    command = [compiler, "-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", f"-I{ON_CPU}", "-o", "libcuda.so.1"]
    subprocess.run([*command, "kernels.cpp", str(ON_CPU / "libcuda.cpp")], cwd=folder, check=True)
    return folder


def run_with(driver: Path, folder: Path, work: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Load and run the library in a process of its own that finds the driver in `driver`; outputs go to work/outputs.npz."""
    name = manifests.parse(folder)["name"]
    np.savez(work / "inputs.npz", **example_inputs(MODELS[name]))
    variables = {**os.environ, "LD_LIBRARY_PATH": str(driver), "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", RUN, str(folder), str(work / "inputs.npz"), str(work / "outputs.npz")]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
