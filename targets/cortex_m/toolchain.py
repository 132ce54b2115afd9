"""The GNU toolchain for Arm: flags for a core, sources into an ELF file, and how large its sections are."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from stack.errors import StackError, ToolMissing

GCC = "arm-none-eabi-gcc"
INSTALL = "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"
FPU = {  # where the core's name alone does not imply its FPU; GCC's manual, "ARM Options"
    "cortex-m4": ("-mfpu=fpv4-sp-d16",),
    "cortex-m7": ("-mfpu=fpv5-sp-d16",),
    "cortex-m33": ("-mfpu=fpv5-sp-d16",),
    "cortex-m55": (),
}
# Scheduling before registers are given out makes more values live than a core of 13 registers holds, and spills them.
OPTIMISE = ("-O2", "-fno-schedule-insns")
PLAIN = ("-std=c99", "-Wall", "-Wextra", "-ffunction-sections", "-fdata-sections")
FIRMWARE = ("-std=gnu99", "-Os", "-Wall", "-Wextra", "-ffunction-sections", "-fdata-sections", "-fno-tree-loop-distribute-patterns")


def find_tool(name: str = GCC) -> Path:
    """A program of the toolchain; ToolMissing, with the command that installs it, where it is not on PATH."""
    found = shutil.which(name)
    if found is None:
        raise ToolMissing("the GNU toolchain for Arm is not installed", at=f"{name} on PATH", hint=INSTALL)
    return Path(found)


def find_newlib() -> Path:
    """The C library that firmware links; ToolMissing where the toolchain comes without it."""
    name = "libc.a"
    found = run([find_tool(), f"-print-file-name={name}"], "the toolchain does not work", GCC).strip()
    if found == name:  # GCC's way to say that there is none
        raise ToolMissing("newlib, the C library for Arm, is not installed", at=f"{GCC} -print-file-name={name}", hint=INSTALL)
    return Path(found)


def core_flags(core: str, fpu: bool) -> list[str]:
    """What makes GCC compile for `core`, such as "cortex-m4"; `fpu` is whether the chip has its floating-point unit."""
    if not fpu:
        return [f"-mcpu={core}", "-mthumb", "-mfloat-abi=soft"]
    return [f"-mcpu={core}", "-mthumb", "-mfloat-abi=hard", *FPU[core]]


def run(command: Sequence[str | Path], what: str, at: str) -> str:
    """The command's standard output; StackError, with what it complained about first, where it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise StackError(f"{what}: {complaint(done.stderr)}", at=at)
    return done.stdout


def complaint(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|overflowed|undefined|left for the stack", line, re.IGNORECASE)]
    return (telling or lines or ["no message"])[0]


def compile_source(source: Path, into: Path, flags: Sequence[str]) -> Path:
    """`source` compiled into the folder `into`."""
    made = into / f"{source.stem}.o"
    run([find_tool(), *flags, "-c", source, "-o", made], "the C compiler failed", str(source))
    return made


def link(objects: Sequence[Path], script: Path, elf: Path, flags: Sequence[str]) -> Path:
    """Objects into the firmware `elf`. StackError where it does not fit into the memories that `script` names."""
    command = [find_tool(), *flags, "-nostartfiles", "-Wl,--gc-sections", "-T", script, *objects, "-o", elf, "-lm"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        short = re.findall(r"region [`'](\w+)' overflowed by (\d+) bytes", done.stderr)
        if short:
            needs = "; ".join(f"{bytes} bytes more of {name} are needed than there are" for name, bytes in dict.fromkeys(short))
            raise StackError(f"the firmware does not fit: {needs}", at=str(elf), hint="choose a board with more memory, or a smaller model")
        raise StackError(f"the linker failed: {complaint(done.stderr)}", at=str(elf))
    return elf


def section_sizes(elf: Path) -> dict[str, int]:
    """Bytes of each section of `elf`, by name."""
    text = run([find_tool("arm-none-eabi-size"), "-A", "-d", elf], "the sizes cannot be read", str(elf))
    return {name: int(size) for name, size in re.findall(r"^(\.\S+)\s+(\d+)\s+\d+$", text, re.MULTILINE)}
