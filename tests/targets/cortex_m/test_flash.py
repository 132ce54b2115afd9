"""What `stackc flash` builds, which commands it runs, and what it says when they do not work."""

import os
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from stack.errors import StackError, ToolMissing, UnknownTarget
from targets.cortex_m import flash, serial
from targets.cortex_m.board import FLASH_TOOLS
from targets.cortex_m.project import board_files
from targets.registry import every, find
from tests.targets.cortex_m.projects import write_project

FLASHED = [target.name for target in every() if target.board.get("flash_with")]


def project(name: str, folder: Path) -> dict:
    """A C project compiled for `name`."""
    target = find(name)
    manifest = write_project(folder, str(target.codegen["mcpu"]), target.machine.fpu)
    manifest["target"]["name"] = name
    for title, text in board_files(target, "tiny", manifest).items():
        (folder / title).write_text(text)
    return manifest


@pytest.fixture
def no_drive(monkeypatch):
    monkeypatch.setattr(flash, "MOUNTS", ())


def commands(name, tmp_path, **more):
    return [list(command) for command in flash.plan(tmp_path, project(name, tmp_path), name, dry=True, **more)]


def test_the_commands_for_each_tool(tmp_path, no_drive):
    assert commands("nucleo-l4r5zi", tmp_path) == [
        ["openocd", "-f", "interface/stlink.cfg", "-f", "target/stm32l4x.cfg", "-c", f"program {{{tmp_path}/tiny.elf}} verify reset exit"]
    ]
    assert commands("nrf52840-dk", tmp_path) == [["pyocd", "flash", "--no-wait", "--target", "nrf52840", f"{tmp_path}/tiny.elf"]]
    assert commands("raspberry-pi-pico", tmp_path) == [["picotool", "load", "-v", "-x", f"{tmp_path}/tiny.uf2"]]
    assert commands("arduino-nano-33-ble", tmp_path, port="/dev/ttyACM3") == [
        ["stty", "-F", "/dev/ttyACM3", "1200", "hupcl"],
        ["bossac", "--port=ttyACM3", "-U", "-i", "-e", "-w", f"{tmp_path}/tiny.bin", "-R"],
    ]


def test_every_board_that_can_be_flashed_names_a_known_tool_with_what_it_needs(tmp_path, no_drive):
    assert {find(name).board["flash_with"]["tool"] for name in FLASHED} == set(flash.TOOLS)
    for name in FLASHED:
        assert commands(name, tmp_path / name)[-1][0] in flash.TOOLS


def test_a_board_file_may_name_every_tool_and_no_other():
    assert set(FLASH_TOOLS) == set(flash.TOOLS)


def test_a_port_that_is_not_there_is_called_port_in_a_dry_run_only(tmp_path, monkeypatch):
    monkeypatch.setattr(serial, "ports", list)
    manifest = project("arduino-nano-33-ble", tmp_path)
    assert "--port=PORT" in flash.plan(tmp_path, manifest, "arduino-nano-33-ble", dry=True)[1]
    with pytest.raises(StackError) as caught:
        flash.plan(tmp_path, manifest, "arduino-nano-33-ble")
    assert str(caught.value) == (
        "error: no serial port looks like the board 'arduino-nano-33-ble'\n"
        "  hint: connect it, or name its port with --port; the ports here are none"
    )


def test_the_board_s_own_port_is_found(tmp_path, monkeypatch):
    here = [SimpleNamespace(device="/dev/ttyACM7", description="Nano 33 BLE", product=None, manufacturer="Arduino")]
    monkeypatch.setattr(serial, "ports", lambda: here)
    manifest = project("arduino-nano-33-ble", tmp_path)
    assert flash.plan(tmp_path, manifest, "arduino-nano-33-ble")[0][2] == "/dev/ttyACM7"


def test_a_mounted_drive_takes_the_file_itself(tmp_path, monkeypatch):
    drive = tmp_path / "me" / "RPI-RP2"
    drive.mkdir(parents=True)
    monkeypatch.setattr(flash, "MOUNTS", (f"{tmp_path}/*/{{0}}",))
    manifest = project("raspberry-pi-pico", tmp_path / "p")
    (command,) = flash.plan(tmp_path / "p", manifest, "raspberry-pi-pico")
    flash.execute([command], "raspberry-pi-pico")
    written = (drive / "tiny.uf2").read_bytes()
    assert written[512 * 1 + 32 :][:8] == (tmp_path / "p/tiny.bin").read_bytes()[256:264]
    assert struct.unpack_from("<I", written, 12) == (0x1000_0000,)


def test_a_project_for_another_board_of_its_core_gets_a_program_of_its_own(tmp_path):
    manifest = project("nucleo-f446re", tmp_path)
    (command,) = flash.plan(tmp_path, manifest, "nrf52840-dk")
    assert command[-1] == f"{tmp_path}/build-nrf52840-dk/tiny.elf"
    (command,) = flash.plan(tmp_path, manifest, "nucleo-f446re", harness=True)
    assert f"{tmp_path}/build-nucleo-f446re-harness/tiny.elf" in command[-1]
    assert (tmp_path / "build-nucleo-f446re-harness/tiny.bin").stat().st_size > (tmp_path / "build-nrf52840-dk/tiny.bin").stat().st_size


def test_what_users_wrote_into_main_is_what_gets_flashed(tmp_path):
    manifest = project("nucleo-f446re", tmp_path)
    (tmp_path / "main.c").write_text("int main(void) { mistake }\n")
    with pytest.raises(StackError) as caught:
        flash.plan(tmp_path, manifest, "nucleo-f446re")
    assert caught.value.what.startswith("the project does not build: main.c")
    assert "mistake" in caught.value.what
    assert caught.value.at == str(tmp_path)


@pytest.mark.parametrize(
    ("board", "what"),
    [
        ("mps2-an386", "error: the board 'mps2-an386' is one of QEMU's: there is nothing to flash\n"
                       "  hint: `stackc run DIR --board mps2-an386` runs it"),
        ("cortex-m4", "error: 'cortex-m4' is no board\n  hint: `stackc boards` lists the boards"),
        ("x86-avx2", "error: 'x86-avx2' is no board\n  hint: `stackc boards` lists the boards"),
        ("raspberry-pi-pico", "error: the board 'raspberry-pi-pico' does not run code for cortex-m4: it has a cortex-m0plus\n"
                              "  hint: compile the model again with -t raspberry-pi-pico"),
    ],
)  # fmt: skip
def test_what_cannot_be_flashed(board, what, tmp_path):
    with pytest.raises(StackError) as caught:
        flash.plan(tmp_path, project("nucleo-f446re", tmp_path), board)
    assert str(caught.value) == what


def test_an_unknown_board(tmp_path):
    with pytest.raises(UnknownTarget) as caught:
        flash.plan(tmp_path, {}, "nucleo-f446er")
    assert str(caught.value) == "error: no target is called 'nucleo-f446er'\n  hint: did you mean 'nucleo-f446re'?"


def test_a_tool_that_is_not_installed(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissing) as caught:
        flash.execute([["pyocd", "flash"]], "nrf52840-dk")
    assert str(caught.value) == "error: pyocd is not installed\n  at: pyocd on PATH\n  hint: pip install pyocd"


def test_without_make(tmp_path, monkeypatch):
    manifest = project("nucleo-f446re", tmp_path)
    monkeypatch.setattr(flash.shutil, "which", lambda name: None if name == "make" else "/bin/true")
    with pytest.raises(ToolMissing) as caught:
        flash.plan(tmp_path, manifest, "nucleo-f446re")
    assert str(caught.value) == "error: make is not installed\n  at: make on PATH\n  hint: apt-get install make"


def test_a_probe_that_is_not_connected(tmp_path, monkeypatch):
    tool = tmp_path / "openocd"
    tool.write_text("#!/bin/sh\necho 'Open On-Chip Debugger 0.12.0'\necho 'Error: open failed' >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(StackError) as caught:
        flash.execute([["openocd", "-c", "program"]], "nucleo-f446re")
    assert str(caught.value) == (
        "error: openocd did not flash the board: Error: open failed\n  at: nucleo-f446re\n  hint: connect the board's ST-LINK USB socket"
    )
