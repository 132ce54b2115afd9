import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import stack
from stack.emit.native import RUNTIME
from targets.registry import find
from targets.x86.detect import cpu_flags

PROGRAM = r"""
#include "tiny.h"
#include <stdio.h>
#include <stdlib.h>

static float image[3 * 8 * 8], features[4 * 8 * 8], rows[2 * 6];
static int64_t ids[2];

int main(int argc, char **argv) {
  if (argc != 3 || fread(image, sizeof image, 1, stdin) != 1 || fread(ids, sizeof ids, 1, stdin) != 1) return 2;
  tiny_model *model = tiny_open(argv[1], atoi(argv[2]));
  if (!model) { perror("tiny_open"); return 3; }
  for (int again = 0; again < 3; ++again)
    if (tiny_run(model, image, ids, features, rows)) return 4;
  tiny_close(model);
  fwrite(features, sizeof features, 1, stdout);
  fwrite(rows, sizeof rows, 1, stdout);
  return 0;
}
"""
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]


@pytest.fixture(scope="module")
def program(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A C program linked with the library, by a compiler that takes every warning for an error."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "main.c").write_text(PROGRAM)
    files = [str(folder / "main.c"), "-o", str(folder / "main")]
    subprocess.run(["cc", "-std=c99", *WARNINGS, f"-I{saved}", *files, f"-L{saved}", "-ltiny"], check=True)
    return folder / "main"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_c_program_computes_the_same_without_python_or_tvm(threads, program, saved, arrays, expected):
    data = arrays["image"].tobytes() + arrays["ids"].tobytes()
    command = [program, saved / "weights.bin", str(threads)]
    done = subprocess.run(command, input=data, capture_output=True, env={"LD_LIBRARY_PATH": str(saved)}, check=True)
    result = np.frombuffer(done.stdout, np.float32)
    np.testing.assert_allclose(result[:256], expected["features"].ravel(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(result[256:], expected["rows"].ravel(), rtol=1e-5)


def test_the_library_needs_nothing_but_the_c_library(saved):
    needed = subprocess.run(["ldd", saved / "libtiny.so"], capture_output=True, text=True, check=True).stdout
    names = {line.split()[0].split(".")[0] for line in needed.splitlines()}
    assert names <= {"linux-vdso", "libc", "libm", "libpthread", "/lib64/ld-linux-x86-64"}


def test_a_c_program_learns_why_a_library_does_not_open(program, saved, tmp_path):
    command = [program, tmp_path / "none", "1"]
    done = subprocess.run(command, input=bytes(1024), capture_output=True, env={"LD_LIBRARY_PATH": str(saved)})
    assert (done.returncode, done.stderr) == (3, b"tiny_open: No such file or directory\n")


def test_only_names_of_the_model_are_exported(saved):
    if shutil.which("nm") is None:
        pytest.skip("nm, of binutils, is not installed")
    listed = subprocess.run(["nm", "-D", "--defined-only", saved / "libtiny.so"], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1].split("@")[0] for line in listed.splitlines()}
    assert {"tiny_open", "tiny_run", "tiny_close"} <= names
    assert all(name.startswith("tiny_") for name in names)


def test_the_header_serves_cpp_as_well(saved, tmp_path):
    (tmp_path / "main.cc").write_text('#include "tiny.h"\nint main() { return tiny_open(nullptr, 1) == nullptr; }\n')
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler is installed")
    subprocess.run(["c++", *WARNINGS, "-fsyntax-only", f"-I{saved}", str(tmp_path / "main.cc")], check=True)


@pytest.mark.parametrize("file", sorted(RUNTIME.glob("*.c")), ids=lambda file: file.name)
def test_the_runtime_compiles_without_a_warning(file, tmp_path):
    subprocess.run(["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-c", str(file), "-o", str(tmp_path / "out.o")], check=True)


@pytest.mark.parametrize("target", ["x86", "x86-avx2"])
def test_the_same_model_gives_the_same_bytes_in_another_process_and_folder(target, model_file, tmp_path):
    """Nor does the result depend on the order in which Python hashes, or on what else was compiled."""
    code = "import sys, stack; stack.compile(sys.argv[1], sys.argv[3]).save(sys.argv[2])"
    for seed in ("1", "2"):
        model = tmp_path / seed / "tiny.onnx"
        model.parent.mkdir()
        shutil.copy(model_file, model)
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-c", code, model, tmp_path / seed / "out", target], env=environment, cwd=tmp_path / seed, check=True
        )
    names = sorted(file.name for file in (tmp_path / "1/out").iterdir())
    assert names == sorted(file.name for file in (tmp_path / "2/out").iterdir())
    same, different, unread = filecmp.cmpfiles(tmp_path / "1/out", tmp_path / "2/out", names, shallow=False)
    assert (sorted(same), different, unread) == (names, [], [])


@pytest.mark.parametrize("target", ["x86-avx2", "x86-avx512", "x86-avx512-vnni", "x86-avx512-bf16"])
def test_a_library_for_another_x86_says_what_it_needs_and_computes_the_same_where_it_can(target, model_file, arrays, expected, tmp_path):
    library = stack.compile(model_file, target, threads=1)
    library.save(tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["target"]["features"] == list(find(target).features)
    if not cpu_flags().issuperset(find(target).features):
        pytest.skip(f"this CPU cannot run {target}")
    for name, array in stack.load(tmp_path / "out").run(arrays).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-5)
