"""Put a firmware into a board's flash: build it, then call the program that the board file names.

    [board]
    flash_with = { tool = "openocd", interface = "interface/stlink.cfg", target = "target/stm32f4x.cfg" }

A new tool is one entry of TOOLS. The UF2 drive of a Raspberry Pi Pico needs no tool: where it is mounted, the file is copied there.
"""

import glob
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.errors import StackError, ToolMissing
from targets.cortex_m import boot, build, toolchain
from targets.cortex_m.board import Board, board_of, check_runs
from targets.cortex_m.serial import find_port
from targets.registry import find
from targets.target import Target

Command = Sequence[str]
MOUNTS = ("/media/*/{0}", "/media/{0}", "/run/media/*/{0}", "/Volumes/{0}")


@dataclass(frozen=True)
class Tool:
    """A program that flashes boards: what installs it, what mostly helps when it fails, and the commands for a firmware.

    `by_probe` is whether it writes through a debug probe, so that nobody must press a button each time.
    """

    install: str
    remedy: str
    commands: Callable[[Board, Path, str], Sequence[Command]]
    by_probe: bool = False


def pyocd(board: Board, elf: Path, _port: str) -> Sequence[Command]:
    return [["pyocd", "flash", "--no-wait", "--target", board.flash_with["target"], str(elf)]]


def openocd(board: Board, elf: Path, _port: str) -> Sequence[Command]:
    configuration = [word for key in ("interface", "target") for word in ("-f", board.flash_with[key])]
    return [["openocd", *configuration, "-c", f"program {{{elf}}} verify reset exit"]]


def bossac(_board: Board, elf: Path, port: str) -> Sequence[Command]:
    image = elf.with_suffix(".bin")
    touch = ["stty", "-F", port, "1200", "hupcl"]  # opened at 1200 baud and closed, the board starts its bootloader
    return [touch, ["bossac", f"--port={Path(port).name}", "-U", "-i", "-e", "-w", str(image), "-R"]]


def picotool(board: Board, elf: Path, _port: str) -> Sequence[Command]:
    image = str(elf.with_suffix(".uf2"))
    volume = mounted(board.flash_with["volume"])
    return [["cp", image, volume]] if volume else [["picotool", "load", "-v", "-x", image]]


TOOLS = {
    "pyocd": Tool("pip install pyocd", "connect the board's debug USB socket; `pyocd list` shows the probes that it sees", pyocd, True),
    "openocd": Tool("apt-get install openocd", "connect the board's ST-LINK USB socket", openocd, True),
    "bossac": Tool(
        "Arduino's own: arduino-cli core install arduino:mbed_nano brings it, add its folder to PATH",
        "press the board's reset button twice, which starts its bootloader, and name the port with --port",
        bossac,
    ),
    "picotool": Tool(
        "hold BOOTSEL while you connect the board, mount its drive and try again; or apt-get install picotool (from Debian 13 on)",
        "hold BOOTSEL while you connect the board",
        picotool,
    ),
}


def mounted(volume: str) -> str:
    """Where the drive called `volume` is mounted; empty where it is not."""
    found = [path for pattern in MOUNTS for path in glob.glob(pattern.format(volume)) if os.path.isdir(path)]
    return found[0] if found else ""


def build_firmware(folder: Path, manifest: Mapping[str, Any], board: Board, harness: bool) -> Path:
    """What is to be flashed, beside its .bin and, where the chip takes it, .uf2.

    The project's own program, as its Makefile builds it, where it was compiled for this board; otherwise one that runs the model over and
    over; with `harness` the one that computes what `stackc run --port` sends.
    """
    check_runs(manifest["target"]["codegen"]["mcpu"], manifest["machine"]["fpu"], board)
    if not harness and manifest["target"]["name"] == board.name:
        toolchain.find_tool()
        if shutil.which("make") is None:
            raise ToolMissing("make is not installed", at="make on PATH", hint="apt-get install make")
        toolchain.run(["make", "-C", folder], "the project does not build", str(folder))
        elf = folder / f"{manifest['name']}.elf"
    else:
        into = folder / f"build-{board.name}{'-harness' if harness else ''}"
        into.mkdir(exist_ok=True)
        if harness:
            elf = build.build_harness(folder, manifest, board, into, uart=True, profile=True)
        else:
            elf = build.build_minimal(folder, manifest, board, into)
    image = elf.with_suffix(".bin")
    toolchain.run([toolchain.find_tool("arm-none-eabi-objcopy"), "-O", "binary", elf, image], "the image cannot be made", str(elf))
    if board.boot:
        family = boot.BEGINNINGS[board.boot].uf2_family
        elf.with_suffix(".uf2").write_bytes(boot.uf2(image.read_bytes(), board.memories("flash")[0].base, family))
    return elf


def plan(
    folder: Path, manifest: Mapping[str, Any], name: str, port: str = "", harness: bool = False, dry: bool = False
) -> Sequence[Command]:
    """Build the firmware of the C project in `folder` for the board called `name`; the commands that flash it.

    UnknownTarget where there is no such board; StackError where it is one that nothing flashes, or the firmware does not fit. In a `dry`
    plan a port that is not there is called PORT.
    """
    board = flashable(find(name))
    elf = build_firmware(folder.absolute(), manifest, board, harness)
    return commands(board, elf, port, dry)


def commands(board: Board, elf: Path, port: str = "", dry: bool = False) -> Sequence[Command]:
    """What puts the firmware `elf`, beside which are its .bin and .uf2, into the flash of `board`."""
    tool = board.flash_with["tool"]
    if tool == "bossac" and not port:
        port = port_or_name(board) if dry else find_port(board.name, board.flash_with["port"])
    return TOOLS[tool].commands(board, elf, port)


def port_or_name(board: Board) -> str:
    try:
        return find_port(board.name, board.flash_with["port"])
    except StackError:
        return "PORT"


def flashable(target: Target) -> Board:
    if target.family != "cortex_m" or not target.memory:
        raise StackError(f"'{target.name}' is no board", hint="`stackc boards` lists the boards")
    board = board_of(target)
    if not board.flash_with:
        raise StackError(
            f"the board '{board.name}' is one of QEMU's: there is nothing to flash", hint=f"`stackc run DIR --board {board.name}` runs it"
        )
    return board


def execute(commands: Sequence[Command], board: str) -> None:
    """Run the commands; ToolMissing or StackError, with what the tool complained about, where one does not do its work."""
    tool = str(board_of(find(board)).flash_with["tool"])
    for command in commands:
        program = shutil.which(command[0])
        if program is None:
            raise ToolMissing(f"{command[0]} is not installed", at=f"{command[0]} on PATH", hint=TOOLS[tool].install)
        done = subprocess.run(
            [program, *command[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            raise StackError(f"{command[0]} did not flash the board: {toolchain.complaint(done.stdout)}", at=board, hint=TOOLS[tool].remedy)
