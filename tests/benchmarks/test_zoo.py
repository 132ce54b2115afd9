"""The zoo's builders: valid models, the same bytes each time, and answers that are neither flat nor infinite."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def zoo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("zoo", ROOT / "benchmarks/zoo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(zoo: ModuleType, name: str) -> onnx.ModelProto:
    model = getattr(zoo, name)() if hasattr(zoo, name) else zoo.light(name)
    assert isinstance(model, onnx.ModelProto)
    return model


@pytest.mark.parametrize("name", ["mobilenetv2", "encoder", "squeezenet", "shufflenet"])
def test_a_model_is_valid_and_answers_vary(zoo: ModuleType, name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = build(zoo, name)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    rng = np.random.default_rng(0)
    first, second = (session.run(None, {given.name: rng.standard_normal(given.shape).astype(np.float32)})[0] for _ in range(2))
    assert np.isfinite(first).all()
    assert first.std() > 1e-4
    assert not np.allclose(first, second, rtol=1e-3)


def test_weights_come_from_a_seed(zoo: ModuleType) -> None:
    assert build(zoo, "squeezenet").SerializeToString() == build(zoo, "squeezenet").SerializeToString()


def test_a_package_that_is_not_installed_is_left_out(zoo: ModuleType) -> None:
    assert zoo.packaged("no_such_package", "model.onnx") is None
