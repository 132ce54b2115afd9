"""The engines that a benchmark compares with: each opens a model and runs it on as many threads as it is told."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from stack.errors import ToolMissing
from targets.runner import Array

Run = Callable[[Mapping[str, Array]], list[Any]]  # arrays by name -> outputs in the model's order
Open = Callable[[Path, Mapping[str, Sequence[int]], int], Run]


def module(name: str) -> ModuleType:
    """The package called `name`; ToolMissing, with the command, where it is not installed."""
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise ToolMissing(f"{name} is not installed", hint=f"pip install {name}") from None


def onnxruntime(model: Path, shapes: Mapping[str, Sequence[int]], threads: int) -> Run:
    """ONNX Runtime's CPU provider. It takes shapes as they come, so `shapes` is not needed."""
    ort = module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda inputs: list(session.run(None, dict(inputs)))


def openvino(model: Path, shapes: Mapping[str, Sequence[int]], threads: int) -> Run:
    """OpenVINO's CPU plugin, told to keep float32: by itself it computes in bfloat16 where the CPU can, and where weights are stored as
    bytes it rounds the activations of products to bytes as well (1 % off on MiniLM), whatever the hint says."""
    return open_openvino(model, shapes, threads, {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"})


def openvino_default(model: Path, shapes: Mapping[str, Sequence[int]], threads: int) -> Run:
    """OpenVINO's CPU plugin with the precision that it takes by itself."""
    return open_openvino(model, shapes, threads, {})


def open_openvino(model: Path, shapes: Mapping[str, Sequence[int]], threads: int, more: Mapping[str, str]) -> Run:
    core = module("openvino").Core()
    network = core.read_model(str(model))
    if shapes:
        network.reshape({name: list(shape) for name, shape in shapes.items()})
    settings = {
        **more,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # the benchmark confines every engine to the same cores
    }
    compiled = core.compile_model(network, "CPU", settings)
    request = compiled.create_infer_request()

    def run(inputs: Mapping[str, Array]) -> list[Any]:
        results = request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        return [results[output] for output in compiled.outputs]

    return run


PEERS: dict[str, Open] = {"onnxruntime": onnxruntime, "openvino": openvino, "openvino-default": openvino_default}
