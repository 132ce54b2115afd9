"""MLPerf Tiny's networks, every tensor of them, against TFLite Micro to the last bit."""

from pathlib import Path

import numpy as np
import pytest
import tflite

from stack import knobs
from stack.frontends.load import load
from tests.frontends.tflite.build import Micro
from tests.real_inputs import crops
from tests.relay_passes.integers.host import Host, random_values

onnxruntime = pytest.importorskip("onnxruntime")
VIEWS = {tflite.BuiltinOperator.RESHAPE}


def file(name: str) -> Path:
    path = Path(knobs.models()) / "mlperf_tiny" / name
    if not path.exists():
        pytest.skip(f"{path} is not there: see CONTRIBUTING.md on models for tests")
    return path


def computed(data: bytes) -> list[int]:
    """The tensors that a model computes, in order, without those that are only looked at in another shape."""
    model = tflite.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    nodes = [graph.Operators(index) for index in range(graph.OperatorsLength())]
    return [int(node.Outputs(0)) for node in nodes if model.OperatorCodes(node.OpcodeIndex()).BuiltinCode() not in VIEWS]


def inputs_of(name: str, shape: tuple[int, ...], count: int) -> list[np.ndarray]:
    if name == "kws_int8.tflite":
        features = np.load(file("kws_inputs_500.npz"))["x"]
        return [features[index].reshape(shape) for index in range(0, len(features), len(features) // count)]
    if name in ("ic_int8.tflite", "vww_int8.tflite"):
        return list(crops(shape[1], count)[:, None])
    rng = np.random.default_rng(3)
    # noise with a level, so that images differ by more than their noise
    return [np.clip(random_values(shape, "int8", rng) // 2 + rng.integers(-90, 90), -128, 127).astype("int8") for _ in range(count)]


@pytest.mark.parametrize("name", ["ad_int8.tflite", "hello_world_int8.tflite", "ic_int8.tflite", "kws_int8.tflite", "vww_int8.tflite"])
def test_every_tensor_is_that_of_tflite_micro(name: str) -> None:
    data = file(name).read_bytes()
    host, micro = Host(load(file(name), {}).module), Micro(data, keep=True)
    assert host.float_islands == []
    shape = tuple(int(extent) for extent in host.main.params[0].ty.shape)
    seen = set()
    for x in inputs_of(name, shape, 5):
        expected, (given,) = micro.run([x])[0], host.run([x])
        for index, (tensor, result) in enumerate(zip(computed(data), host.results, strict=True)):
            np.testing.assert_array_equal(result.reshape(-1), micro.tensor(tensor).reshape(-1), err_msg=host.calls[index])
        np.testing.assert_array_equal(given, expected)
        seen.add(expected.tobytes())
    assert len(seen) > 1


def test_keywords_are_those_of_tflite_micro() -> None:
    recorded = np.load(file("kws_inputs_500.npz"))
    host = Host(load(file("kws_int8.tflite"), {}).module)
    given = np.concatenate([host.run([x[None]])[0] for x in recorded["x"][:100]])
    np.testing.assert_array_equal(given, recorded["tflm_output"][:100])


@pytest.mark.parametrize("name", ["ic_qdq.onnx", "kws_qdq.onnx"])
def test_onnx_networks_stay_in_integers_up_to_the_softmax(name: str) -> None:
    module = load(file(name), {}).module
    host = Host(module)
    assert [item.split()[0] for item in host.float_islands] == ["nn.softmax"]
    assert host.calls[0] == "quantize"
    assert host.calls[-2:] == ["dequantize", "softmax"]
    assert not {"transpose", "reshape"} & set(host.calls)


def test_onnx_keywords_are_those_of_onnx_runtime() -> None:
    """Both round a little differently in each layer, and hear the same words."""
    meaning = load(file("kws_int8.tflite"), {}).quantization["input_1"]
    features = np.load(file("kws_inputs_500.npz"))["x"][:20].astype("float32").reshape(20, 1, -1)
    session = onnxruntime.InferenceSession(file("kws_qdq.onnx"))
    host = Host(load(file("kws_qdq.onnx"), {}).module)
    words = []
    for x in (features - meaning.zero_point) * np.float32(meaning.scale):
        want, got = session.run(None, {"input_1": x})[0], host.run([x])[0]
        words.append((int(want.argmax()), int(got.argmax())))
    assert len({word for word, _ in words}) > 4
    assert all(want == got for want, got in words)
