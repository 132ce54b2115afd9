"""CUDA libraries: real machine code without a GPU, numbers, and what they say where they cannot run."""

import ctypes
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import stack
from stack.emit.nvcc import cubin_arch
from stack.errors import BadLibrary, StackError
from targets.cuda.runner import CudaRunner
from targets.registry import find
from tests.targets.cuda_networks import MODELS, Build, example_inputs, run_with, skip_aloud

Maker = Callable[[str, str], Build]
Driver = Callable[[str], Path]


def cubin(folder: Path) -> bytes:
    """The machine code inside a library."""
    name = json.loads((folder / "manifest.json").read_text())["name"]
    function = getattr(ctypes.CDLL(str(folder / f"lib{name}.so")), f"{name}_cubin")
    function.restype, size = ctypes.c_void_p, ctypes.c_size_t()
    start = function(ctypes.byref(size))
    return ctypes.string_at(start, size.value)


def expected(network: onnx.ModelProto) -> dict[str, np.ndarray]:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, example_inputs(network)), strict=True))


def check(outputs: dict[str, np.ndarray], network: onnx.ModelProto) -> None:
    wanted = expected(network)
    assert outputs.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-4 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("target", ["cuda-sm80", "cuda-sm90"])
@pytest.mark.parametrize("name", MODELS)
def test_a_library_holds_machine_code_of_its_target_for_each_kernel(build: Maker, name: str, target: str) -> None:
    folder = build(name, target).folder
    code = cubin(folder)
    assert cubin_arch(code) == target.replace("cuda-sm", "sm_")
    kernels = {operator["kernel"] for operator in json.loads((folder / "manifest.json").read_text())["operators"]} - {"copy"}
    assert kernels
    for kernel in kernels:
        assert f".text.{kernel}_kernel".encode() in code


def test_the_same_model_gives_the_same_files(build: Maker, tmp_path: Path) -> None:
    first = build("cnn", "cuda-sm90")
    onnx.save(first.network, tmp_path / "cnn.onnx")
    stack.compile(tmp_path / "cnn.onnx", "cuda-sm90").save(tmp_path / "library")
    for file in sorted(first.folder.iterdir()):
        assert (tmp_path / "library" / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize("name", MODELS)
def test_kernels_and_launches_compute_what_onnx_runtime_does(build: Maker, driver: Driver, name: str, tmp_path: Path) -> None:
    """Without a GPU: the source that nvcc gets, run on the CPU by the library's own launches."""
    built = build(name, "cuda-sm90")
    done = run_with(driver(name), built.folder, tmp_path)
    assert done.returncode == 0, done.stderr
    check(dict(np.load(tmp_path / "outputs.npz")), built.network)


@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
def test_a_gpu_computes_what_onnx_runtime_does(build: Maker, name: str) -> None:
    capability = gpu_capability()
    target = {8: "cuda-sm80", 9: "cuda-sm90"}.get(capability // 10)
    if target is None:
        skip_aloud(f"CUDA libraries did not run on a GPU: {'none here' if capability == 0 else f'this one has capability {capability}'}")
    built = build(name, str(target))
    library = stack.load(built.folder)
    check(library.run(example_inputs(built.network)), built.network)
    assert all(seconds > 0 for seconds in library.profile(example_inputs(built.network)))


def gpu_capability() -> int:
    """90 for 9.0; 0 where there is no driver or no GPU."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return 0
    cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    return 10 * major.value + minor.value


def test_compiling_and_loading_touch_no_gpu_and_running_names_the_missing_driver(build: Maker, tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").write_text("no library")  # found before any real one
    done = run_with(tmp_path, build("cnn", "cuda-sm90").folder, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no NVIDIA driver was found (")
    assert "run it on a machine with an NVIDIA GPU and its driver" in done.stderr


@pytest.mark.parametrize(
    ("environment", "texts"),
    [
        ({"FAKE_GPUS": "0"}, ["error: the NVIDIA driver does not start: no CUDA-capable device is detected", "`nvidia-smi` lists those"]),
        (
            {"FAKE_CAPABILITY": "86"},
            ["error: the library is for compute capability 9.0, and this GPU (Fake GPU) has 8.6", "compile the model again for the GPU"],
        ),
        ({"FAKE_FAILS": "cuLaunchKernel"}, ["error: fake failure (CUDA_ERROR_FAKE) in cuda->launch(model->functions[launch->kernel]"]),
        ({"FAKE_FAILS": "cuMemAlloc"}, ["error: out of memory (CUDA_ERROR_FAKE)", "the GPU's memory is taken"]),
    ],
)
def test_each_failure_of_the_driver_is_said(
    build: Maker, driver: Driver, environment: dict[str, str], texts: list[str], tmp_path: Path
) -> None:
    done = run_with(driver("cnn"), build("cnn", "cuda-sm90").folder, tmp_path, **environment)
    assert done.returncode == 1
    for text in texts:
        assert text in done.stderr


def test_code_for_8_0_runs_on_8_6(build: Maker, driver: Driver, tmp_path: Path) -> None:
    built = build("cnn", "cuda-sm80")
    done = run_with(driver("cnn"), built.folder, tmp_path, FAKE_CAPABILITY="86")
    assert done.returncode == 0, done.stderr
    check(dict(np.load(tmp_path / "outputs.npz")), built.network)


def test_other_weights_are_refused(build: Maker, driver: Driver, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(build("cnn", "cuda-sm90").folder, tmp_path / "library"))
    (folder / "weights.bin").write_bytes(b"short")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"].clear()  # past the hashes, to the check of the C entry point
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = run_with(driver("cnn"), folder, tmp_path)
    assert done.returncode == 1
    assert "weights.bin: not the weights of this library" in done.stderr


def test_what_the_system_cannot_load_is_a_bad_library(tmp_path: Path) -> None:
    (tmp_path / "libcnn.so").write_text("no library")
    with pytest.raises(BadLibrary, match="the system could not load the shared library"):
        CudaRunner(tmp_path, "cnn", 1)


def test_a_runner_that_never_ran_closes(build: Maker) -> None:
    library = stack.load(build("cnn", "cuda-sm90").folder)
    library.runner.close()
    library.runner.close()


MAIN = """
#include "cnn.h"
#include <stdio.h>
static float image[768], features[512], again[512], probabilities[10];
int main(int count, char **arguments) {
  const char *text;
  cnn_model *model = cnn_open(arguments[count - 1], 0);
  for (int i = 0; i < 768; ++i) image[i] = (float)(i % 7) - 3;
  if (!model || cnn_run(model, image, features, again, probabilities)) return printf("%d %s", cnn_error(&text), text), 1;
  for (int i = 0; i < 10; ++i) printf("%.6f\\n", (double)probabilities[i]);
  cnn_close(model);
  return 0;
}
"""


def test_a_c_program_runs_the_library(build: Maker, driver: Driver, tmp_path: Path) -> None:
    built = build("cnn", "cuda-sm90")
    (tmp_path / "main.c").write_text(MAIN)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{built.folder}", "-o", "main", "main.c"]
    subprocess.run(["cc", *flags, str(built.folder / "libcnn.so")], cwd=tmp_path, check=True)
    paths = {"LD_LIBRARY_PATH": f"{driver('cnn')}:{built.folder}"}
    done = subprocess.run([tmp_path / "main", built.folder / "weights.bin"], env=paths, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(built.network.SerializeToString(), providers=["CPUExecutionProvider"])
    image = (np.arange(768) % 7 - 3).astype(np.float32).reshape(1, 3, 16, 16)
    np.testing.assert_allclose(np.array(done.stdout.split(), float), session.run(["probabilities"], {"image": image})[0][0], atol=2e-6)


def test_only_targets_that_exist_are_offered() -> None:
    with pytest.raises(StackError, match="no target is called 'cuda-sm75'") as raised:
        find("cuda-sm75")
    assert raised.value.hint
    assert "cuda-sm" in raised.value.hint
