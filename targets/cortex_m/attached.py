"""A board that is attached: flashed with one firmware after the other through its debug probe, and asked over its serial port.

    board = Attached(find("nucleo-f446re"), "/dev/ttyACM0")
    session = board.start(elf, manifest)        # flashed, and it answers
    session.run(inputs).steps                   # cycles of each layer
    board.close()

Nothing here waits without an end: a tool that hangs is killed, and a board that does not answer is Lost.
"""

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stack.errors import StackError, ToolMissing
from targets.cortex_m import build, flash, toolchain
from targets.cortex_m.binding import identity, tensor_bytes
from targets.cortex_m.board import Board
from targets.cortex_m.protocol import NoAnswer, Session
from targets.cortex_m.serial import SerialLink
from targets.target import Target

ANSWER_SECONDS = 30.0  # for one run, without what the serial line takes
FLASH_SECONDS = 120.0
BOOT_SECONDS = 5.0  # from the end of flashing to the first answer; some ports vanish for a moment
HELLO_SECONDS = 1.0
TRIES = 2  # a probe may fail once
BITS = 10  # on the line for each byte


class Lost(StackError):
    """The board can no longer be flashed or does not answer, whatever it is flashed with."""


class Attached:
    """The board that `target` describes, at the serial port `port`. StackError where it cannot be used so."""

    def __init__(self, target: Target, port: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.board = flashed_alone(target)
        self.port, self.speed = port, int(self.board.serial.get("speed", 115200))
        self.at, self.answer_seconds = f"{target.name} at {port}", answer_seconds
        SerialLink(port, self.speed, HELLO_SECONDS).close()
        self.link: SerialLink | None = None
        self.flashing: subprocess.Popen[str] | None = None
        self.closing = False

    def start(self, elf: Path, manifest: Mapping[str, Any]) -> Session:
        """Flash the firmware that is the harness around the C project with that manifest; Lost where it cannot be made to answer."""
        for attempt in range(1, TRIES + 1):
            try:
                self.flash(elf)
                return self.session(manifest)
            except StackError as error:
                if self.closing or attempt == TRIES:
                    hint = "check its cables; what was measured is kept, and the same command goes on from there"
                    raise Lost(f"the board is lost: {error.what}", at=self.at, hint=hint) from None
        raise AssertionError("unreachable")

    def flash(self, elf: Path) -> None:
        self.end_session()
        tool = str(self.board.flash_with["tool"])
        for command in flash.commands(self.board, elf, self.port):
            with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as self.flashing:
                try:
                    said, _ = self.flashing.communicate(timeout=FLASH_SECONDS)
                except subprocess.TimeoutExpired:
                    self.flashing.kill()
                    raise StackError(f"{command[0]} did not end within {FLASH_SECONDS:g} s", at=self.at) from None
            if self.flashing.returncode:
                what = f"{command[0]} did not flash the board: {toolchain.complaint(said)}"
                raise StackError(what, at=self.at, hint=flash.TOOLS[tool].remedy)

    def session(self, manifest: Mapping[str, Any]) -> Session:
        """The harness, once it answers: what is sent before it listens is lost."""
        inputs, outputs = (sum(map(tensor_bytes, manifest[kind])) for kind in ("inputs", "outputs"))
        steps = len(manifest["operators"])
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            try:
                self.link = self.link or SerialLink(self.port, self.speed, HELLO_SECONDS)
                session = Session(self.link, steps, inputs, outputs, identity(manifest))
            except StackError as error:
                if not isinstance(error, NoAnswer):  # the port is not there yet, or spoke of something else
                    self.end_session()
                if self.closing or time.monotonic() > deadline:
                    raise
                time.sleep(HELLO_SECONDS / 10)
            else:
                self.link.allow(self.answer_seconds + (inputs + outputs + 4 * steps) * BITS / self.speed)
                return session

    def end_session(self) -> None:
        if self.link:
            self.link.close()
            self.link = None

    def interrupt(self) -> None:
        """Let another thread, which is in `start` or runs a session, end at once with an error."""
        self.closing = True
        if self.flashing and self.flashing.poll() is None:
            self.flashing.kill()
        if self.link:
            self.link.cancel()

    def close(self) -> None:
        """Give the port back. Harmless when repeated."""
        self.closing = True
        self.end_session()


def flashed_alone(target: Target) -> Board:
    """The board, of which one firmware after the other can be measured; StackError where somebody must press a button for each."""
    if target.family != "cortex_m":
        raise StackError(f"'{target.name}' is no microcontroller's board, and has no serial port", hint="`stackc boards` lists the boards")
    if not target.memory:
        raise StackError(f"'{target.name}' is a core and no board", hint="name the board at that port; `stackc boards` lists them")
    board = flash.flashable(target)
    build.uart_header(board)  # which says what a board's file lacks
    name = str(board.flash_with["tool"])
    tool = flash.TOOLS[name]
    if not tool.by_probe:
        others = " or ".join(sorted(other for other, each in flash.TOOLS.items() if each.by_probe))
        raise StackError(
            f"{name} flashes the board '{board.name}' only once its button was pressed, so that candidates cannot be measured on it",
            hint=f"without --port they are counted in QEMU; with a debug probe, a board file whose flash_with names {others} will do",
        )
    if shutil.which(name) is None:
        raise ToolMissing(f"{name} is not installed", at=f"{name} on PATH", hint=tool.install)
    return board
