"""Run a C project: its firmware is built, and runs in QEMU or on a board at a serial port. What comes back is what the device computed."""

import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stack.errors import StackError
from targets.cortex_m import qemu
from targets.cortex_m.binding import identity, tensor_bytes
from targets.cortex_m.board import Board, board_of, recorded
from targets.cortex_m.build import build_harness, build_minimal
from targets.cortex_m.protocol import MEASURE_STACK, RESTART, WINDOW, Answer, Link, Session
from targets.cortex_m.toolchain import section_sizes
from targets.registry import find
from targets.runner import Array


class FirmwareRunner:
    """One C project on one board. The firmware starts with the first run and stays, so a streaming model's state goes on from run to run.

    `timeout` is how many seconds one run may take; `port` the serial port of a board that is not QEMU's.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any], board: Board, port: str = "", timeout: float = qemu.TIMEOUT) -> None:
        self.folder, self.manifest, self.board, self.port, self.timeout = folder, manifest, board, port, timeout
        self.unit = "instructions" if board.qemu and not port else "cycles"
        self.sessions: dict[bool, Session] = {}  # with and without the profiler: two firmwares
        self.using = threading.Lock()
        self.closer = weakref.finalize(self, close_all, self.sessions)

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        with self.use(False) as session:
            self.fill(outputs, session.run(inputs))

    def run_many(self, inputs: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """The outputs for each of `inputs`, one after the other; a streaming model takes them as consecutive."""
        answered = []
        for arrays in inputs:
            outputs = [np.empty(entry["shape"], entry["dtype"]) for entry in self.manifest["outputs"]]
            self.run(arrays, outputs)
            answered.append(outputs)
        return answered

    def reset(self) -> None:
        """Let the next run begin a streaming model anew."""
        with self.using:
            close_all(self.sessions)

    def profile(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> list[float]:
        """As `run`, but a streaming model begins anew; instructions, or cycles, of each operator."""
        counts: list[float] = []
        with self.use(True) as session:
            for first in range(0, max(session.operators, 1), WINDOW):
                answer = session.run(inputs, RESTART, first)
                counts += [float(self.count(steps)) for steps in answer.steps]
            self.fill(outputs, answer)
        return counts

    def cost(self, inputs: Sequence[Array]) -> tuple[int, int]:
        """Instructions, or cycles, of one run from the beginning, and bytes of stack that it needed."""
        with self.use(False) as session:
            return self.count(session.run(inputs, RESTART).count), session.run(inputs, RESTART | MEASURE_STACK).stack

    def close(self) -> None:
        self.closer()

    def fill(self, outputs: Sequence[Array], answer: Answer) -> None:
        offset = 0
        for output in outputs:
            output[...] = np.frombuffer(answer.outputs, output.dtype, output.size, offset).reshape(output.shape)
            offset += output.nbytes

    def count(self, clocks: int) -> int:
        return clocks if self.unit == "cycles" else qemu.instructions(clocks, self.board.clock_hz)

    @contextmanager
    def use(self, profile: bool) -> Iterator[Session]:
        """The running firmware, for this thread alone; after an error the next run starts another."""
        with self.using:
            try:
                yield self.session(profile)
            except BaseException:
                close_all(self.sessions)
                raise

    def session(self, profile: bool) -> Session:
        """The running firmware; started now where it does not run yet. What is flashed to a real board always has the profiler."""
        profile = profile and self.unit == "instructions"
        if profile not in self.sessions:
            inputs, outputs = (sum(map(tensor_bytes, self.manifest[kind])) for kind in ("inputs", "outputs"))
            operators = len(self.manifest["operators"])
            self.sessions[profile] = Session(self.start(profile), operators, inputs, outputs, identity(self.manifest))
        return self.sessions[profile]

    def start(self, profile: bool) -> Link:
        """QEMU with a firmware of its own, or the serial port of a real board, which was flashed before."""
        if self.port or not self.board.qemu:
            from targets.cortex_m.serial import SerialLink, find_port

            emulated = find(self.board.core).board["emulate"]
            otherwise = f"`--board {emulated}` runs it in QEMU"
            port = self.port or find_port(self.board.name, self.board.serial.get("port", []), otherwise)
            return SerialLink(port, int(self.board.serial.get("speed", 115200)), self.timeout)
        with tempfile.TemporaryDirectory(prefix="stack-firmware-") as work:
            elf = build_harness(self.folder, self.manifest, self.board, Path(work), profile=profile)
            return qemu.Emulator(elf, self.board.qemu, self.timeout)


def close_all(sessions: dict[bool, Session]) -> None:
    for session in sessions.values():
        session.link.close()
    sessions.clear()


def open_runner(
    folder: Path, manifest: Mapping[str, Any], threads: int = 1, *, board: str = "", port: str = "", timeout: float = qemu.TIMEOUT
) -> FirmwareRunner:
    """The runner of the C project in `folder`. `board` names another board than the one it was compiled for; `port` is its serial port.

    Nothing is built or started before the first run. `threads` means nothing to a microcontroller.
    """
    return FirmwareRunner(folder, manifest, choose_board(manifest, board), port, timeout)


def choose_board(manifest: Mapping[str, Any], name: str = "") -> Board:
    """The board called `name`; otherwise the one that a C project was compiled for, or that QEMU emulates for its core.

    UnknownTarget where there is no such board; StackError where what has that name is no board.
    """
    if not name and manifest["target"].get("memory"):
        return recorded(manifest)
    chosen = find(name or manifest["target"]["codegen"]["mcpu"])
    if chosen.family != "cortex_m":
        raise StackError(f"'{chosen.name}' is no microcontroller", hint="`stackc boards` lists the boards")
    board = board_of(chosen)
    return board_of(find(board.emulate)) if board.emulate else board


def measure(folder: Path, manifest: Mapping[str, Any], inputs: Sequence[Array], *, board: str = "") -> dict[str, Any]:
    """What one run costs: {"instructions", "flash_bytes": {"code", "weights"}, "ram_bytes": {"arena", "static", "stack"}}.

    `code` is all that a complete firmware has in flash but the weights: start-up code, a main() that only runs the model, the model, and
    what it needs of the C library. `static` is that firmware's variables without the arena; a streaming model's state is among them.
    """
    runner = open_runner(folder, manifest, board=board)
    try:
        instructions, stack = runner.cost(inputs)
    finally:
        runner.close()
    with tempfile.TemporaryDirectory(prefix="stack-firmware-") as work:
        sizes = section_sizes(build_minimal(folder, manifest, runner.board, Path(work)))
    data = sizes.get(".data", 0)
    weights = [".weights", *(f".{memory.name}" for memory in runner.board.memories("flash")[1:])]
    return {
        "instructions": instructions,
        "flash_bytes": {"code": sizes[".text"] + sizes.get(".ARM.exidx", 0) + data, "weights": sum(sizes.get(name, 0) for name in weights)},
        "ram_bytes": {"arena": manifest["arena_bytes"], "static": data + sizes.get(".bss", 0), "stack": stack},
    }
