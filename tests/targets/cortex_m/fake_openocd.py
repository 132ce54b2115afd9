"""A board without a board: an `openocd` that "flashes" by starting QEMU, and a serial port that is the UART of that machine.

with attached_board(tmp_path, monkeypatch) as bench:
    open_runner("netduinoplus2", port=bench.port)
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from targets.cortex_m import qemu

BOARD = "netduinoplus2"  # which QEMU knows, and openocd flashes
TOOL = """#!{python}
import os, re, signal, subprocess, sys
from pathlib import Path
bench = Path({bench!r})
elf = re.search("program {{(.*)}} verify", sys.argv[-1])[1]
with (bench / "flashed").open("a") as log:
    print(elf, file=log)
count = len((bench / "flashed").read_text().splitlines())
if (bench / "running").exists():
    os.kill(int((bench / "running").read_text()), signal.SIGKILL)
    (bench / "running").unlink()
if count > int((bench / "lives").read_text()):
    sys.exit("Error: open failed")
command = [{qemu!r}, "-M", "netduinoplus2", "-kernel", elf, "-display", "none", "-monitor", "none", "-serial", "pty"]
command += ["-icount", "shift=6,align=off,sleep=off"]  # so that its clock counts instructions
running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
(bench / "running").write_text(str(running.pid))
for line in running.stdout:
    if found := re.search(r"redirected to (\\S+)", line):
        (bench / "next").symlink_to(found[1])
        (bench / "next").rename(bench / "port")
        break
"""


@dataclass(frozen=True)
class Bench:
    folder: Path

    @property
    def port(self) -> str:
        return str(self.folder / "port")

    @property
    def flashed(self) -> int:
        log = self.folder / "flashed"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def dies_after(self, flashes: int) -> None:
        """From then on no firmware gets into it."""
        (self.folder / "lives").write_text(str(flashes))

    def unplug(self) -> None:
        """Now, whatever it does."""
        self.dies_after(0)
        running = self.folder / "running"
        if running.exists():
            with suppress(ProcessLookupError):
                os.kill(int(running.read_text()), signal.SIGKILL)


@contextmanager
def attached_board(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    folder.mkdir(exist_ok=True)
    tools = folder / "tools"
    tools.mkdir()
    tool = tools / "openocd"
    tool.write_text(TOOL.format(python=sys.executable, bench=str(folder), qemu=str(qemu.find_qemu())))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    inside, outside = os.openpty()  # what is there before anything was flashed
    (folder / "port").symlink_to(os.ttyname(outside))
    bench = Bench(folder)
    bench.dies_after(1000)
    try:
        yield bench
    finally:
        bench.unplug()
        os.close(inside)
        os.close(outside)
