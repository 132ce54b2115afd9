"""CUDA libraries of small networks, compiled once a session, and the driver that runs their kernels on the CPU."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

import stack
from stack.emit import cuda
from stack.emit.nvcc import find_nvcc
from stack.errors import ToolMissing
from tests.targets.cuda_networks import MODELS, Build, fake_driver, skip_aloud, skips


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: runs on an NVIDIA GPU, and says so where there is none")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason in dict.fromkeys(skips):
        terminalreporter.write_line(f"SKIPPED ALOUD: {reason}", yellow=True)


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Build]:
    """build("cnn", "cuda-sm90"): compiled once a session. Skips aloud where there is no CUDA compiler."""
    try:
        find_nvcc()
    except ToolMissing as error:
        skip_aloud(f"CUDA libraries were not compiled: {error.what}; {error.hint}")
    done: dict[tuple[str, str], Build] = {}

    def make(name: str, target: str) -> Build:
        if (name, target) not in done:
            folder = tmp_path_factory.mktemp(f"{name}-{target}")
            onnx.save(MODELS[name], folder / f"{name}.onnx")
            sources: list[str] = []
            compile_cubin = cuda.compile_cubin
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(cuda, "compile_cubin", lambda source, *rest: [sources.append(source), compile_cubin(source, *rest)][1])
                stack.compile(folder / f"{name}.onnx", target).save(folder / "library")
            done[name, target] = Build(MODELS[name], folder / "library", sources[0])
        return done[name, target]

    return make


@pytest.fixture(scope="session")
def driver(build: Callable[[str, str], Build], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """driver("cnn"): where the libcuda.so.1 lies that runs the kernels of that network's sm_90 library."""
    done: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in done:
            done[name] = fake_driver(build(name, "cuda-sm90").source, tmp_path_factory.mktemp(f"driver-{name}"))
        return done[name]

    return make
