"""The harness over a serial line: a fake device at a pseudo-terminal, and the real firmware behind QEMU's UARTs."""

import os
import re
import struct
import subprocess
import threading
import time
import tty
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stack.errors import StackError, ToolMissing
from targets.cortex_m import build, qemu, serial
from targets.cortex_m.board import Board, board_of
from targets.cortex_m.protocol import frame
from targets.cortex_m.runner import open_runner
from targets.registry import find
from tests.targets.cortex_m.projects import write_project
from tests.targets.cortex_m.test_runner import INPUT, dense, run

pytest.importorskip("serial", reason="pyserial is not installed: pip install pyserial")
HELLO = struct.pack("<4I", 0, 2, 8, 16)


@contextmanager
def device(*answers: bytes) -> Iterator[str]:
    """A port at which the n-th frame gets the n-th of `answers`, byte for byte."""
    inside, outside = os.openpty()
    tty.setraw(outside)

    def serve() -> None:
        for answer in answers:
            (length,) = struct.unpack("<4xI", read(8))
            read(length + 4)
            os.write(inside, answer)

    def read(count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += os.read(inside, count - len(data))
        return data

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield os.ttyname(outside)
    finally:
        os.close(outside)
        os.close(inside)


def outputs(values: np.ndarray, status: int = 0, count: int = 777) -> bytes:
    return frame(ord("O"), struct.pack("<i4I", status, count, 0, 1, 0) + values.astype("<i4").tobytes())


def test_a_device_at_a_port_computes(tmp_path):
    manifest = write_project(tmp_path)
    with device(b"a boot loader speaks\r\nS" + frame(ord("H"), HELLO), outputs(dense(INPUT)), outputs(dense(INPUT))) as port:
        runner = open_runner(tmp_path, manifest, board="nucleo-f446re", port=port)
        np.testing.assert_array_equal(run(runner, INPUT), dense(INPUT))
        assert runner.unit == "cycles"
        assert runner.session(False).run([INPUT]).count == 777
        runner.close()


@pytest.mark.parametrize(
    ("answers", "what"),
    [
        ((frame(ord("H"), HELLO[4:] + HELLO[:4]),), "the device runs another program than the harness of this very model"),
        ((frame(ord("H"), HELLO), outputs(dense(INPUT))[:-1] + b"?"), "an answer of the device arrived damaged"),
        ((frame(ord("H"), HELLO), frame(ord("E"))), "the inputs arrived damaged at the device"),
        ((frame(ord("H"), HELLO), frame(ord("F"), b"the firmware faulted\n")), "the firmware faulted"),
        ((b"garbage",), "the board gave no answer within 0.3 s"),
        ((), "the board gave no answer within 0.3 s"),
    ],
    ids=["other program", "damaged answer", "damaged input", "fault", "garbage", "silence"],
)
def test_what_can_go_wrong_at_a_port(answers, what, tmp_path):
    with device(*answers) as port:
        runner = open_runner(tmp_path, write_project(tmp_path), board="nucleo-f446re", port=port, timeout=0.3)
        with pytest.raises(StackError) as caught:
            run(runner, INPUT)
        assert (caught.value.what, caught.value.at) == (what, port)
        runner.close()


def test_a_frame_is_what_the_protocol_says():
    made = frame(ord("R"), b"abc")
    assert made == b"SKR\0\3\0\0\0abc" + struct.pack("<I", zlib.crc32(b"SKR\0\3\0\0\0abc"))


@contextmanager
def emulated(elf: Path, machine: str) -> Iterator[str]:
    """The port at which QEMU shows the machine's first UART."""
    command = [qemu.find_qemu(), "-M", machine, "-kernel", elf, "-display", "none", "-monitor", "none", "-serial", "pty"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout
        lines = iter(process.stdout.readline, "")
        yield next(found[1] for line in lines if (found := re.search(r"redirected to (\S+)", line)))
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


@pytest.mark.parametrize("name", ["mps2-an385", "mps2-an505", "mps3-an547", "microbit", "netduinoplus2"])
def test_the_firmware_speaks_over_the_uart_of_a_real_machine(name, tmp_path):
    board = board_of(find(name))
    manifest = write_project(tmp_path, board.core, board.fpu)
    work = tmp_path / "work"
    work.mkdir()
    elf = build.build_harness(tmp_path, manifest, board, work, uart=True, profile=True)
    with emulated(elf, board.qemu) as port:
        time.sleep(0.2)  # QEMU drops what arrives before the firmware has switched its UART on
        runner = open_runner(tmp_path, manifest, board=name, port=port, timeout=10)
        rng = np.random.default_rng(0)
        for _ in range(3):
            x = rng.integers(-128, 128, (1, 8), np.int8)
            np.testing.assert_array_equal(run(runner, x), dense(x))
        assert len(runner.profile([INPUT], [np.empty((1, 4), np.int32)])) == 2
        runner.close()


@pytest.mark.parametrize("name", ["nucleo-l4r5zi", "nucleo-f446re", "stm32f746g-disco", "nrf52840-dk", "arduino-nano-33-ble"])
def test_the_harness_links_for_boards_that_qemu_has_not(name, tmp_path):
    board = board_of(find(name))
    manifest = write_project(tmp_path, board.core, board.fpu)
    elf = build.build_harness(tmp_path, manifest, board, tmp_path, uart=True)
    assert elf.exists()
    assert "-DSTACK_CYCLES" in build.harness_defines(board, False)


def test_the_harness_links_for_the_pico(tmp_path):
    board = board_of(find("raspberry-pi-pico"))
    assert build.build_harness(tmp_path, write_project(tmp_path, "cortex-m0plus", False), board, tmp_path, uart=True).exists()
    assert build.harness_defines(board, True) == ["-DSTACK_PROFILE"]  # its core has no DWT


def test_a_board_whose_file_names_no_uart(tmp_path):
    with pytest.raises(StackError) as caught:
        build.uart_header(Board("mine", "cortex-m4", True, ()))
    assert str(caught.value) == (
        "error: the board 'mine' has no serial line that the harness knows\n  hint: its board file needs `uart`, as others have"
    )


def test_a_port_that_is_not_there(monkeypatch):
    monkeypatch.setattr(serial, "ports", lambda: [SimpleNamespace(device="/dev/ttyACM0", description="", manufacturer="")])
    with pytest.raises(StackError) as caught:
        serial.SerialLink("/dev/nothing", 115200, 1.0)
    assert caught.value.what.startswith("the serial port cannot be opened: ")
    assert (caught.value.at, caught.value.hint) == ("/dev/nothing", "the ports here are /dev/ttyACM0")


def port(device: str, description: str) -> SimpleNamespace:
    return SimpleNamespace(device=device, description=description, product=None, manufacturer=None)


def test_the_port_of_a_board_is_found_by_its_description(monkeypatch, tmp_path):
    words = board_of(find("nucleo-f446re")).serial["port"]
    link, other = port("/dev/ttyACM1", "STM32 STLink"), port("/dev/ttyUSB0", "FT232R USB UART")
    monkeypatch.setattr(serial, "ports", lambda: [other, link])
    assert serial.find_port("nucleo-f446re", words) == "/dev/ttyACM1"
    for here, what in (([other], "no serial port looks"), ([link, link], "several serial ports look (/dev/ttyACM1, /dev/ttyACM1)")):
        monkeypatch.setattr(serial, "ports", lambda here=here: here)
        with pytest.raises(StackError) as caught:
            run(open_runner(tmp_path, write_project(tmp_path), board="nucleo-f446re"), INPUT)
        assert caught.value.what == f"{what} like the board 'nucleo-f446re'"
        assert caught.value.hint.startswith("connect it, or name its port with --port; the ports here are /dev/tty")
        assert caught.value.hint.endswith("; `--board mps2-an386` runs it in QEMU")


def test_a_board_that_qemu_has_not_is_looked_for_at_the_ports(monkeypatch, tmp_path):
    with device(frame(ord("H"), HELLO), outputs(dense(INPUT))) as at:
        monkeypatch.setattr(serial, "ports", lambda: [port(at, "STM32 STLink")])
        runner = open_runner(tmp_path, write_project(tmp_path), board="nucleo-f446re", timeout=5)
        np.testing.assert_array_equal(run(runner, INPUT), dense(INPUT))
        runner.close()


def test_without_pyserial(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "serial", None)
    with pytest.raises(ToolMissing) as caught:
        serial.pyserial()
    assert str(caught.value) == "error: pyserial is not installed\n  at: the Python package 'serial'\n  hint: pip install pyserial"
