"""Run a firmware in QEMU. Its semihosting files are two pipes of ours, so a session is the same as over a serial line.

Each instruction takes 64 ns of QEMU's virtual time (-icount shift=6), which is more than one tick of any machine's SysTick: ticks tell
instructions exactly, whatever this computer does meanwhile.
"""

import os
import select
import shutil
import subprocess
import tempfile
import time
import weakref
from pathlib import Path

from stack.errors import StackError, ToolMissing

QEMU = "qemu-system-arm"
INSTALL = "apt-get install qemu-system-arm"
SHIFT = 6
TIMEOUT = 120.0  # seconds that a firmware may take for one answer


def find_qemu() -> Path:
    """qemu-system-arm on PATH; ToolMissing, with the command that installs it, where it is not."""
    found = shutil.which(QEMU)
    if found is None:
        raise ToolMissing("QEMU for Arm is not installed", at=f"{QEMU} on PATH", hint=INSTALL)
    return Path(found)


def instructions(ticks: int, clock_hz: float) -> int:
    """How many instructions passed in `ticks` of a counter that runs at `clock_hz`."""
    return round(ticks * (1e9 / clock_hz) / (1 << SHIFT))


class Emulator:
    """The link to a firmware that runs in QEMU. `timeout` is how many seconds it may take for one answer."""

    def __init__(self, elf: Path, machine: str, timeout: float = TIMEOUT) -> None:
        program = find_qemu()
        self.at, self.timeout = f"{elf.name} on QEMU's {machine}", timeout
        self.folder = Path(tempfile.mkdtemp(prefix="stack-qemu-"))
        pipes = [self.folder / name for name in ("to_device", "from_device")]
        for pipe in pipes:
            os.mkfifo(pipe)
        # Opened for both directions, so that neither side waits for the other to come.
        self.to_device, self.from_device = (os.open(pipe, os.O_RDWR | os.O_NONBLOCK) for pipe in pipes)
        self.console = self.folder / "console"
        command = [
            *(str(program), "-M", machine, "-kernel", str(shutil.copy(elf, self.folder))),
            *("-display", "none", "-monitor", "none", "-serial", "none"),
            *("-icount", f"shift={SHIFT},align=off,sleep=off", "-semihosting-config", "enable=on,target=native"),
        ]
        with self.console.open("wb") as console:
            self.process = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        self.ended = os.pidfd_open(self.process.pid)
        self.close = weakref.finalize(self, stop, self.process, self.folder, (self.to_device, self.from_device, self.ended))

    def send(self, data: bytes) -> None:
        deadline = time.monotonic() + self.timeout
        while data:
            self.wait(self.to_device, deadline)
            data = data[os.write(self.to_device, data) :]

    def receive(self, count: int) -> bytes:
        deadline = time.monotonic() + self.timeout
        received = bytearray()
        while len(received) < count:
            self.wait(self.from_device, deadline)
            received += os.read(self.from_device, count - len(received))
        return bytes(received)

    def wait(self, awaited: int, deadline: float) -> None:
        """Until a pipe is ready; StackError once the firmware has ended or the deadline is past."""
        poll = select.poll()
        poll.register(awaited, select.POLLIN if awaited == self.from_device else select.POLLOUT)
        poll.register(self.ended, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(1000 * max(0.0, deadline - time.monotonic()))]
        if awaited in ready:
            return
        printed = self.console.read_text(errors="replace").strip()
        so_far = f"; it printed: {printed}" if printed else "; it printed nothing"
        if self.ended in ready:
            raise StackError(f"the firmware ended before its answer{so_far}", at=self.at)
        raise StackError(
            f"the firmware gave no answer within {self.timeout:g} s{so_far}",
            at=self.at,
            hint="it hangs, or it needs more time than it was given",
        )


def stop(process: subprocess.Popen[bytes], folder: Path, descriptors: tuple[int, ...]) -> None:
    process.kill()
    process.wait()
    for descriptor in descriptors:
        os.close(descriptor)
    shutil.rmtree(folder, ignore_errors=True)
