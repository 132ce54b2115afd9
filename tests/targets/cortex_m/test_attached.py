"""One firmware after the other on a board that is attached, which here is QEMU behind a serial port."""

from pathlib import Path

import pytest

from stack.errors import StackError, ToolMissing
from targets.cortex_m import attached, build
from targets.cortex_m.attached import Attached, Lost
from targets.cortex_m.board import board_of
from targets.cortex_m.protocol import RESTART
from targets.registry import find
from tests.targets.cortex_m.fake_openocd import BOARD, attached_board
from tests.targets.cortex_m.projects import write_project
from tests.targets.cortex_m.test_runner import INPUT, dense

pytest.importorskip("serial", reason="pyserial is not installed: pip install pyserial")


def test_a_firmware_is_flashed_and_answers_until_the_board_is_gone(monkeypatch, tmp_path):
    board = board_of(find(BOARD))
    manifest = write_project(tmp_path, board.core, board.fpu)
    (tmp_path / "work").mkdir()
    elf = build.build_harness(tmp_path, manifest, board, tmp_path / "work", uart=True, profile=True)
    with attached_board(tmp_path / "bench", monkeypatch) as bench:
        device = Attached(find(BOARD), bench.port, answer_seconds=10)
        answer = device.start(elf, manifest).run([INPUT], RESTART)
        assert answer.outputs == dense(INPUT).tobytes()
        assert len(answer.steps) == 2
        assert answer.steps[0] > 0
        assert bench.flashed == 1
        bench.dies_after(0)
        with pytest.raises(Lost) as caught:
            device.start(elf, manifest)
        assert str(caught.value) == (
            f"error: the board is lost: openocd did not flash the board: Error: open failed\n  at: {BOARD} at {bench.port}\n"
            "  hint: check its cables; what was measured is kept, and the same command goes on from there"
        )
        assert bench.flashed == 1 + attached.TRIES
        device.close()
        device.close()


def test_a_board_that_never_answers_and_a_tool_that_never_ends(monkeypatch, tmp_path):
    board = board_of(find(BOARD))
    manifest = write_project(tmp_path, board.core, board.fpu)
    monkeypatch.setattr(attached, "BOOT_SECONDS", 0.1)
    monkeypatch.setattr(attached, "HELLO_SECONDS", 0.1)
    monkeypatch.setattr(attached, "FLASH_SECONDS", 0.2)
    with attached_board(tmp_path / "bench", monkeypatch) as bench:
        device = Attached(find(BOARD), bench.port)
        tool = tmp_path / "bench/tools/openocd"
        for does, said in (("exit 0", "the board gave no answer within 0.1 s"), ("sleep 60", "openocd did not end within 0.2 s")):
            tool.write_text(f"#!/bin/sh\nexec {does}\n" if "sleep" in does else f"#!/bin/sh\n{does}\n")
            with pytest.raises(Lost, match=f"the board is lost: {said}"):
                device.start(tmp_path / "none.elf", manifest)


@pytest.mark.parametrize(
    ("target", "block"),
    [
        ("cortex-m4", "error: 'cortex-m4' is a core and no board\n  hint: name the board at that port; `stackc boards` lists them"),
        ("x86-avx2", "error: 'x86-avx2' is no microcontroller's board, and has no serial port\n  hint: `stackc boards` lists the boards"),
        ("mps2-an386", "error: the board 'mps2-an386' is one of QEMU's: there is nothing to flash\n"
                       "  hint: `stackc run DIR --board mps2-an386` runs it"),
        ("raspberry-pi-pico",
         "error: picotool flashes the board 'raspberry-pi-pico' only once its button was pressed, so that candidates cannot "
         "be measured on it\n  hint: without --port they are counted in QEMU; with a debug probe, a board file whose flash_with names "
         "openocd or pyocd will do"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_at_a_port(target, block):
    with pytest.raises(StackError) as caught:
        Attached(find(target), "/dev/ttyACM0")
    assert str(caught.value) == block


def test_a_port_or_a_tool_that_is_not_there(monkeypatch, tmp_path):
    with attached_board(tmp_path / "bench", monkeypatch):
        with pytest.raises(StackError, match="the serial port cannot be opened: ") as caught:
            Attached(find(BOARD), str(tmp_path / "nothing"))
        assert caught.value.at == str(tmp_path / "nothing")
        Path(tmp_path / "file").write_text("no port")
        with pytest.raises(StackError, match="the serial port cannot be opened: "):
            Attached(find(BOARD), str(tmp_path / "file"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissing) as missing:
        Attached(find("nrf52840-dk"), "/dev/ttyACM0")
    assert str(missing.value) == "error: pyocd is not installed\n  at: pyocd on PATH\n  hint: pip install pyocd"
