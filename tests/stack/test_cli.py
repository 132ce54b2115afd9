import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from stack import arguments, cli, compiler, peers
from stack.errors import ToolMissing


def stackc(capsys, *words):
    """(exit status, stdout, stderr) of one command, run in this process."""
    try:
        status = cli.main([str(word) for word in words])
    except SystemExit as exit_:  # --help and --version
        status = exit_.code
    out, err = capsys.readouterr()
    return status, out, err


def error(capsys, *words):
    """The block on stderr of a command that fails."""
    status, _, err = stackc(capsys, *words)
    assert status == 2
    assert err.startswith("error: ")
    assert err.count("error: ") == 1
    return err


# what every command shares


def test_help_is_quick_since_it_imports_nothing_heavy():
    code = """
import sys
from stack import cli
try:
    cli.main(["--help"])
except SystemExit:
    pass
print(sorted({"tvm", "tvm_ffi", "numpy", "onnx", "rich", "xgboost"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    for name in ("compile", "tune", "run", "bench", "profile", "targets", "doctor"):
        assert f"\n    {name} " in done.stdout


def test_the_program_is_installed_under_its_name():
    done = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "stackc"), "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("stackc 0.")


def test_no_command(capsys):
    assert error(capsys) == "error: no command was given\n  hint: `stackc --help` lists the commands\n"


def test_an_unknown_command(capsys):
    assert error(capsys, "complie", "x").startswith("error: argument COMMAND: invalid choice: 'complie'")


def test_a_missing_argument(capsys, model_file):
    assert error(capsys, "compile", model_file) == (
        "error: the following arguments are required: -o/--output\n  hint: `stackc compile --help` shows how to call it\n"
    )


def test_a_fault_of_ours_says_so_and_how_to_report_it(capsys, monkeypatch, tmp_path):
    def broken(*_arguments, **_named):
        raise ValueError("first line\nsecond line")

    monkeypatch.setattr("targets.registry.every", broken)
    status, _, err = stackc(capsys, "targets")
    assert status == 1
    assert err == f"error: internal error: ValueError: second line\n  hint: {cli.ISSUES}\n"
    monkeypatch.setenv("STACK_DEBUG", "1")
    assert "Traceback" in stackc(capsys, "targets")[2]


def test_a_missing_package_comes_with_the_command(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "stack.report", raising=False)
    assert error(capsys, "targets") == f"error: the Python package 'rich' is not installed\n  hint: {cli.REINSTALL}\n"


def test_a_missing_file_of_ours_is_a_fault_of_ours(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "targets.registry", None)
    status, _, err = stackc(capsys, "targets")
    assert status == 1
    assert err.startswith("error: internal error: ModuleNotFoundError: ")


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m stack.cli targets | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_of_the_system_is_no_traceback(capsys, folder):
    blocked = folder.parent / "blocked"
    blocked.write_text("")
    assert error(capsys, "run", folder, "--outputs", blocked / "out.npz").startswith(f"error: Not a directory\n  at: {blocked}")


# compile


def test_compile_writes_a_library_and_says_what_it_made(capfd, model_file, tmp_path):
    status, out, err = stackc(capfd, "compile", model_file, "-t", "x86", "-o", tmp_path / "out")
    assert (status, err) == (0, "")
    for name in ("libtiny.so", "weights.bin", "tiny.h", "manifest.json"):
        assert (tmp_path / "out" / name).is_file()
        assert name in out
    assert re.search(
        r"compiled   in [\d.]+ s: load TVM [\d.]+, import the model [\d.]+, graph passes [\d.]+, schedule [\d.]+, build [\d.]+\n", out
    )
    assert "target     x86\n" in out
    assert " bytes) a call" in out
    assert "operators  " in out


def test_operators_that_fell_to_the_fallback_are_named(capsys, compiled, tmp_path):
    from stack.report import show_library

    show_library(tmp_path, compiled.manifest, ["odd", "odd", "other"], "2.0 s")
    out = capsys.readouterr().out
    assert (
        f"operators  {len(compiled.manifest['operators'])}, of which 3 fell to the fallback rule\n  fallback: odd\n  fallback: other\n"
        in out
    )


def test_an_unknown_target_gets_the_nearest(capsys, model_file, tmp_path):
    assert error(capsys, "compile", model_file, "-t", "x68", "-o", tmp_path / "out") == (
        "error: no target is called 'x68'\n  hint: did you mean 'x86'?\n"
    )


@pytest.mark.parametrize("text", ["image", "image=", "image=1,a", "image=1,0", "image=1,-1", "=1,2", "image=1,,2"])
def test_a_shape_that_cannot_be_read(text, capsys, model_file, tmp_path):
    block = error(capsys, "compile", model_file, "-o", tmp_path / "out", "--shape", text)
    if text == "image=":
        assert "image" in block  # a scalar: read, and then refused by the model
    else:
        assert block.startswith(f"error: argument --shape: '{text}' is not of the form NAME=1,3,224,224\n")


def test_a_shape_may_have_an_equals_sign_in_its_name():
    assert arguments.shape("a=b:0=1,3") == ("a=b:0", (1, 3))


def test_a_foreign_folder_is_refused_before_anything_is_compiled(capsys, model_file, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    assert error(capsys, "compile", model_file, "-o", tmp_path).startswith(
        f"error: the folder holds something else than a library\n  at: {tmp_path}\n"
    )


def test_a_missing_model_leaves_nothing_behind(capsys, tmp_path):
    assert str(tmp_path / "none.onnx") in error(capsys, "compile", tmp_path / "none.onnx", "-o", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_build_that_fails_leaves_nothing_behind(capsys, model_file, tmp_path, monkeypatch):
    def broken(*_arguments):
        raise ToolMissing("no C compiler was found", hint="apt-get install gcc libc6-dev")

    monkeypatch.setattr(compiler, "emit", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    block = error(capsys, "compile", model_file, "-o", tmp_path / "out")
    assert block == "error: no C compiler was found\n  hint: apt-get install gcc libc6-dev\n"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(model_file, tmp_path):
    code = f"""
import os, signal, sys
from stack import cli, compiler
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
real = compiler.emit
def emit(*arguments):
    real(*arguments)
    os.kill(os.getpid(), signal.SIGINT)
compiler.emit = emit
sys.exit(cli.main(["compile", {str(model_file)!r}, "-o", {str(tmp_path / "out")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")
    assert list(tmp_path.iterdir()) == []


# run


def test_run_reads_and_writes_npz(capsys, saved, arrays, expected, tmp_path):
    np.savez(tmp_path / "in.npz", **arrays)
    status, out, _ = stackc(capsys, "run", saved, "--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz", "--threads", 1)
    assert status == 0
    assert "features  float32  [1, 4, 8, 8]" in out
    with np.load(tmp_path / "out.npz") as outputs:
        assert outputs.files == list(expected)
        for name, array in expected.items():
            np.testing.assert_allclose(outputs[name], array, rtol=1e-5, atol=1e-5)


def test_run_draws_inputs_from_a_seed_and_says_which(capsys, saved):
    status, first, _ = stackc(capsys, "run", saved)
    assert status == 0
    assert first.startswith("random inputs, seed 0\n")
    assert stackc(capsys, "run", saved)[1] == first
    assert stackc(capsys, "run", saved, "--seed", 1)[1].splitlines()[2:] != first.splitlines()[2:]


def test_run_reports_a_wrong_array(capsys, saved, arrays, tmp_path):
    np.savez(tmp_path / "in.npz", image=arrays["image"].astype(np.float64), ids=arrays["ids"])
    assert error(capsys, "run", saved, "--inputs", tmp_path / "in.npz").startswith(
        "error: input 'image' is float64, and the model takes float32\n"
    )


def test_run_reports_a_missing_library(capsys, tmp_path):
    assert error(capsys, "run", tmp_path / "none").startswith(f"error: no such folder\n  at: {tmp_path / 'none'}\n")


@pytest.mark.parametrize("threads", ["0", "-1", "two"])
def test_threads_must_be_a_positive_whole_number(threads, capsys, saved):
    assert error(capsys, "run", saved, f"--threads={threads}").startswith(
        f"error: argument --threads: '{threads}' is not a whole number of at least 1\n"
    )


# bench


def test_bench_prints_and_writes_a_comparison(capfd, model_file, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("stack.bench.SECONDS", 0.01)
    words = ["bench", model_file, "-t", "x86", "--against", "onnxruntime", "--threads", 1, "--json", tmp_path / "out.json"]
    status, out, err = stackc(capfd, *words)
    assert (status, err) == (0, "")
    assert "stack / engine" in out
    result = json.loads((tmp_path / "out.json").read_text())
    assert list(result) == ["model", "target", "threads", "machine", "results", "ratio"]
    assert (result["model"], result["target"], result["threads"]) == (str(model_file), "x86", 1)
    assert [list(entry) for entry in result["results"]] == [["engine", "median_ms", "min_ms", "max_abs_error"]] * 2
    ours, peer = result["results"]
    assert (ours["engine"], peer["engine"]) == ("stack", "onnxruntime")
    assert 0 < ours["min_ms"] <= ours["median_ms"]
    assert 0 <= ours["max_abs_error"] < 1e-4
    assert peer["max_abs_error"] == 0
    assert result["ratio"] == {"onnxruntime": ours["median_ms"] / peer["median_ms"]}


def test_an_unknown_peer_gets_the_nearest(capsys, model_file):
    assert error(capsys, "bench", model_file, "--against", "onnxrutime").startswith(
        "error: argument --against: no engine is called 'onnxrutime'; did you mean 'onnxruntime'?\n"
    )


def test_the_peers_of_the_command_line_are_those_there_are():
    for name in peers.PEERS:
        assert arguments.peer(name) == name


def test_a_peer_that_is_not_installed_comes_with_the_command(capsys, model_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert error(capsys, "bench", model_file, "--against", "openvino") == "error: openvino is not installed\n  hint: pip install openvino\n"


# profile, targets, doctor


def test_profile_shows_every_operator(capsys, saved, compiled, monkeypatch):
    from stack.roofline import Limits

    monkeypatch.setattr("stack.profile.SECONDS", 0.01)
    monkeypatch.setattr("stack.roofline.measure", lambda threads: Limits(1e11, [(1 << 20, 1e10)]))
    status, out, _ = stackc(capsys, "profile", saved, "--threads", 1)
    assert status == 0
    for operator in compiled.manifest["operators"]:
        assert operator["kernel"] in out
    assert re.search(r"operator +rule +decision +ms", out)
    assert re.search(r" conv2d_\w+ +\w+ +default ", out)
    assert "roofline" in out
    assert "100.0 GFLOP/s, 10.0 GB/s within 1 MiB" in out


def test_targets_lists_what_there_is(capsys):
    status, out, _ = stackc(capsys, "targets")
    assert status == 0
    for name in ("x86-avx2", "x86-avx512", "x86-avx512-vnni", "cuda-sm80", "cuda-sm90"):
        assert f"\n{name} " in out


def test_targets_imports_no_tvm():
    code = "import sys; from stack import cli; cli.main(['targets']); sys.exit('tvm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_doctor_shows_packages_tools_and_variables(capsys):
    status, out, _ = stackc(capsys, "doctor")
    assert status == 0
    for text in ("apache-tvm==0.27.0.post1", "apache-tvm-ffi==0.1.14.post1", "C compiler", "nvcc", "openvino", "STACK_DEBUG", "STACK_DUMP"):
        assert text in out


def test_doctor_fails_where_something_needed_is_missing(capsys, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    status, out, err = stackc(capsys, "doctor")
    assert status == 2
    assert "MISSING" in out
    assert err == "error: C compiler: missing, or of another version\n  hint: apt-get install gcc libc6-dev\n"
