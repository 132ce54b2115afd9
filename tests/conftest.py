"""One tiny model, compiled once, serves every test that needs some library."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import stack
from stack.library import Library


def tiny_model() -> onnx.ModelProto:
    """Two inputs and two outputs: a convolution with its tail, and rows looked up in a table."""
    rng = np.random.default_rng(0)
    weights = {
        "weight": rng.standard_normal((4, 3, 3, 3), np.float32),
        "bias": rng.standard_normal(4, np.float32),
        "table": rng.standard_normal((5, 6), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "weight", "bias"], ["conv"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["features"], "relu"),
        helper.make_node("Gather", ["table", "ids"], ["rows"], "lookup"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 8, 8)),
            helper.make_tensor_value_info("ids", TensorProto.INT64, (2,)),
        ],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, (1, 4, 8, 8)),
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, (2, 6)),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "tiny.onnx"
    onnx.save(tiny_model(), file)
    return file


@pytest.fixture(scope="session")
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {"image": rng.standard_normal((1, 3, 8, 8), np.float32), "ids": np.array([4, 1])}


@pytest.fixture(scope="session")
def expected(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(zip(("features", "rows"), ReferenceEvaluator(tiny_model()).run(None, arrays), strict=True))


@pytest.fixture(scope="session")
def compiled(model_file: Path) -> Library:
    return stack.compile(model_file, threads=2)


@pytest.fixture(scope="session")
def saved(compiled: Library, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved library that nobody may change."""
    folder = tmp_path_factory.mktemp("saved") / "tiny"
    compiled.save(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved library, to damage."""
    return Path(shutil.copytree(saved, tmp_path / "tiny"))
