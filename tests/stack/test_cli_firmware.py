"""The commands of C projects: run, profile, flash, export, boards."""

import numpy as np
import pytest

import stack
from stack.errors import BadInput, ToolMissing
from targets.cortex_m import qemu, toolchain
from targets.registry import every
from tests.stack.test_cli import error, stackc
from tests.targets.cortex_m.projects import VALUES, save_project
from tests.targets.cuda_networks import skip_aloud


@pytest.fixture(scope="module", autouse=True)
def tools():
    try:
        toolchain.find_newlib()
        qemu.find_qemu()
    except ToolMissing as error:
        skip_aloud(f"firmware was not built and run: {error.what}; {error.hint}")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A C project that nobody may change."""
    return save_project(tmp_path_factory.mktemp("project") / "tiny")


def test_run_computes_in_qemu_what_the_arrays_say(capsys, project, tmp_path):
    x = np.arange(8, dtype=np.int8).reshape(1, 8)
    np.savez(tmp_path / "in.npz", x=x)
    words = "run", project, "--board", "mps2-an386", "--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz"
    status, out, _ = stackc(capsys, *words)
    assert status == 0
    assert "y       int32  [1, 4]" in out
    with np.load(tmp_path / "out.npz") as outputs:
        assert outputs["y"].ravel().tolist() == (np.array(VALUES).reshape(4, 8) @ np.arange(8)).tolist()


def test_profile_counts_instructions_of_every_operator(capsys, project):
    status, out, _ = stackc(capsys, "profile", project, "--board", "netduinoplus2")
    assert status == 0
    head, first, second, total = out.splitlines()
    assert head.split() == ["#", "operator", "shapes", "rule", "decision", "instructions", "share", "MACs", "per", "MAC"]
    assert first.split()[:6] == ["1", "dense", "[1,8]", "->", "[1,4]", "hand"]
    assert second.split()[:3] == ["2", "body", "hand"]
    assert total.startswith("total ")
    assert " instructions on netduinoplus2, " in total
    assert total.endswith(" per MAC")


def test_a_library_in_python_runs_on_a_board_too(project):
    library = stack.load(project, board="mps2-an500")
    assert library.unit == "instructions"
    assert library.run({"x": np.ones((1, 8), np.int8)})["y"].ravel().tolist() == np.array(VALUES).reshape(4, 8).sum(1).tolist()


def test_an_unknown_board_gets_the_nearest(capsys, project):
    block = error(capsys, "run", project, "--board", "mps2-an368")
    assert block == "error: no target is called 'mps2-an368'\n  hint: did you mean 'mps2-an386'?\n"


def test_what_is_no_board(capsys, project):
    block = error(capsys, "run", project, "--board", "x86-avx2")
    assert block == "error: 'x86-avx2' is no microcontroller\n  hint: `stackc boards` lists the boards\n"


def test_a_library_for_this_machine_runs_on_no_board(capsys, saved):
    with pytest.raises(BadInput) as caught:
        stack.load(saved, board="mps2-an386", port="/dev/ttyACM0")
    assert str(caught.value) == f"error: a library for 'x86' runs on no board\n  at: {saved}, board, port"


def test_flash_prints_the_exact_command_in_a_dry_run(capsys, tmp_path):
    folder = save_project(tmp_path / "tiny")
    status, out, _ = stackc(capsys, "flash", folder, "--board", "nrf52840-dk", "--dry-run")
    assert status == 0
    elf = folder / "build-nrf52840-dk/tiny.elf"
    assert out == f"pyocd flash --no-wait --target nrf52840 {elf}\n"
    assert elf.read_bytes()[:4] == b"\x7fELF"


def test_flash_runs_the_command(capsys, tmp_path, monkeypatch):
    tool = tmp_path / "bin/pyocd"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho $5 > {tmp_path}/called\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    folder = save_project(tmp_path / "tiny")
    status, out, _ = stackc(capsys, "flash", folder, "--board", "nrf52840-dk")
    assert status == 0
    assert out.endswith("flashed nrf52840-dk\n")
    assert (tmp_path / "called").read_text() == f"{folder}/build-nrf52840-dk/tiny.elf\n"


def test_flash_and_export_take_c_projects_only(capsys, saved, tmp_path):
    what = f"error: this is a library for 'x86', and no C project\n  at: {saved}\n  hint: compile the model for a core or a board\n"
    assert error(capsys, "flash", saved, "--board", "nrf52840-dk") == what
    assert error(capsys, "export", saved, "--format", "cmake", "-o", tmp_path / "out") == what


def test_export_says_what_it_wrote(capsys, project, tmp_path):
    status, out, _ = stackc(capsys, "export", project, "--format", "zephyr", "-o", tmp_path / "out")
    assert status == 0
    assert sorted(out.split()) == sorted(str(file) for file in (tmp_path / "out").rglob("*") if file.is_file())


def test_the_formats_of_the_command_line_are_those_there_are(capsys):
    from targets.cortex_m.export import FORMATS

    _, out, _ = stackc(capsys, "export", "--help")
    assert f"{{{','.join(FORMATS)}}}" in out


def test_boards_lists_every_board_with_its_memories(capsys):
    status, out, _ = stackc(capsys, "boards")
    assert status == 0
    rows = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert list(rows) == [target.name for target in every() if target.memory]
    assert rows["nucleo-f446re"].split()[1:8] == ["cortex-m4", "512", "KiB", "128", "KiB", "openocd", "stm32"]
    assert "512 KiB + 4 MiB" in rows["mps3-an547"]
