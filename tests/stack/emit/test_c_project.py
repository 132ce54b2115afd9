"""A C project says what it needs, builds without a warning with any C compiler, and runs without a fault whatever it is called with."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import stack
from stack.emit.c_report import cause
from stack.errors import DoesNotFit
from stack.library import Library
from stack.samples import draw
from targets import registry
from targets.target import Memory, Target
from tests.frontends.tflite.build import C, T, micro, op
from tests.frontends.tflite.build import model as tflite_model
from tests.host_model import WARNINGS, HostModel
from tests.tiny_networks import residual

CORES = ("cortex-m0", "cortex-m3", "cortex-m4")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "tiny-net.tflite"
    file.write_bytes(residual())
    return file


@pytest.fixture(scope="module")
def library(model: Path) -> Library:
    return stack.compile(model, "cortex-m4")


@pytest.mark.parametrize("core", CORES)
def test_the_c_of_every_core_computes_what_tflite_micro_computes(core: str, model: Path, tmp_path: Path) -> None:
    library = stack.compile(model, core)
    host = HostModel(library, tmp_path)
    seen = set()
    for seed in range(8):
        (x,) = draw(library.inputs, seed).values()
        (y,) = host(x)
        np.testing.assert_array_equal(y, micro(model.read_bytes(), [x])[0])
        seen.add(y.tobytes())
    assert len(seen) > 4


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_it_builds_without_a_warning(compiler: str, library: Library, tmp_path: Path) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed: apt-get install {compiler}")
    for source in ("model.c", "weights.c"):
        for defines in ([], ["-DSTACK_PROFILE"]):
            command = [compiler, *WARNINGS, "-O2", *defines, "-c", str(library.folder / source), "-o", str(tmp_path / "out.o")]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


def test_it_allocates_nothing_and_needs_no_system(library: Library, tmp_path: Path) -> None:
    subprocess.run(["gcc", "-O2", "-c", str(library.folder / "model.c"), "-o", str(tmp_path / "model.o")], check=True)
    wanted = subprocess.run(["nm", "-u", str(tmp_path / "model.o")], capture_output=True, text=True, check=True).stdout.split()
    names = {name for name in wanted if name != "U"}
    assert {name for name in names if not name.startswith("tiny_net_layer")} <= {"memcpy", "memmove", "memset", "_GLOBAL_OFFSET_TABLE_"}


MAIN = """
#include "model.h"
#include <stdio.h>
static int8_t x[TINY_NET_INPUT_SIZE], y[TINY_NET_OUTPUT_SIZE];
static char arena[TINY_NET_ARENA_BYTES + 16] __attribute__((aligned(16)));
int main(void) {
  printf("%d %d %d", tiny_net_run(0, y, arena), tiny_net_run(x, 0, arena), tiny_net_run(x, y, 0));
  printf(" %d %d", tiny_net_run(x, y, arena + 4), tiny_net_run(x, y, arena));
  int8_t *in = (int8_t *)arena + TINY_NET_INPUT_OFFSET, *out = (int8_t *)arena + TINY_NET_OUTPUT_OFFSET;
  for (int i = 0; i < TINY_NET_INPUT_SIZE; i++) in[i] = x[i];
  int status = tiny_net_run(in, out, arena), same = 1;
  for (int i = 0; i < TINY_NET_OUTPUT_SIZE; i++) same = same && out[i] == y[i];
  printf(" %d %d %g %d\\n", status, same, (double)TINY_NET_INPUT_SCALE, TINY_NET_INPUT_ZERO_POINT);
  return 0;
}
"""


def test_wrong_calls_get_a_status_and_tensors_may_lie_in_the_arena(library: Library, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(MAIN)
    folder = library.folder
    sources = [str(tmp_path / "main.c"), str(folder / "model.c"), str(folder / "weights.c")]
    command = ["gcc", *WARNINGS, "-fsanitize=address,undefined", f"-I{folder}", *sources, "-o", str(tmp_path / "main"), "-lm"]
    subprocess.run(command, check=True)
    done = subprocess.run([str(tmp_path / "main")], capture_output=True, text=True, check=True)
    assert done.stdout == "1 1 1 2 0 0 1 0.05 -5\n"


def test_the_same_model_gives_the_same_bytes(model: Path, library: Library) -> None:
    again = stack.compile(model, "cortex-m4")
    for name in library.manifest["files"]:
        assert (again.folder / name).read_bytes() == (library.folder / name).read_bytes(), name


def test_each_function_is_headed_by_its_layers_shapes_and_work(library: Library) -> None:
    text = (library.folder / "model.c").read_text()
    assert "/* layer 1: [1,8,8,3] -> [1,8,8,8]\n   3x3 filters, strides [1, 1], padding [1, 1, 1, 1], 13,824 MACs\n" in text


def test_the_report_stands_alone_and_names_the_peak(library: Library) -> None:
    page = (library.folder / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<rect") >= len(library.manifest["arena"])
    assert cause(library.manifest).startswith("layer 3, add [1,8,8,8] [1,8,8,8] -> [1,8,8,8]: 1,024 bytes (")
    assert f"{library.manifest['arena_bytes']:,}" in page


def test_a_board_that_is_too_small_is_refused_before_any_compiler_runs(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = registry.find("mps2-an386")
    tiny = Target(**{**vars(board), "memory": [Memory("flash", "flash", 0, 1 << 20), Memory("ram", "ram", 1 << 29, 2560)]})
    monkeypatch.setattr("stack.compiler.find", lambda _name: tiny)
    monkeypatch.setattr(subprocess, "run", lambda *_a, **_k: pytest.fail("a compiler was started"))
    with pytest.raises(DoesNotFit, match=r"needs [\d,]+ bytes of RAM, and mps2-an386 has 512 for it"):
        stack.compile(model, "mps2-an386")


def test_an_output_has_the_shape_of_the_reshape_that_makes_it(tmp_path: Path) -> None:
    pool = op("MAX_POOL_2D", ["x"], ["y"], padding="VALID", stride_h=1, stride_w=1, filter_height=2, filter_width=2)
    data = tflite_model(
        [T("x", (1, 3, 3, 2), "int8", scale=0.1)],
        [pool, op("RESHAPE", ["y", "shape"], ["flat"])],
        ["flat"],
        constants=[C("shape", np.array([8], np.int32))],
        tensors=[T("y", (1, 2, 2, 2), "int8", scale=0.1), T("flat", (8,), "int8", scale=0.1)],
    )
    library = stack.compile(data, "cortex-m4")
    assert library.outputs[0].shape == (8,)
    (x,) = draw(library.inputs, 0).values()
    np.testing.assert_array_equal(HostModel(library, tmp_path)(x)[0], micro(data, [x])[0])


def test_the_first_rows_of_a_tensor_are_no_reshape_of_it(tmp_path: Path) -> None:
    data = tflite_model(
        [T("x", (2, 3, 2), "int8", scale=0.1)],
        [op("LOGISTIC", ["x"], ["y"]), op("SPLIT", ["axis", "y"], ["first", "second"], num_splits=2)],
        ["first", "second"],
        constants=[C("axis", np.array(0, np.int32))],
        tensors=[
            T("y", (2, 3, 2), "int8", scale=1 / 256, zero_point=-128),
            T("first", (1, 3, 2), "int8", scale=1 / 256, zero_point=-128),
            T("second", (1, 3, 2), "int8", scale=1 / 256, zero_point=-128),
        ],
    )
    library = stack.compile(data, "cortex-m4")
    (x,) = draw(library.inputs, 0).values()
    for got, expected in zip(HostModel(library, tmp_path)(x), micro(data, [x]), strict=True):
        np.testing.assert_array_equal(got, expected)
