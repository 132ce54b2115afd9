"""What Stack needs and what it can use: what is installed here, what is missing, and the command that installs it.

Versions are compared with the ones that our own package asks for, so nothing here repeats a pin.
"""

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from stack.emit.cc import INSTALL, find_cc
from stack.emit.nvcc import WHEELS, find_nvcc
from stack.errors import ToolMissing
from targets.cortex_m import flash, qemu, toolchain
from targets.x86.detect import AVX2, cpu_flags, cpu_name

PACKAGE = "stack-compiler"


@dataclass(frozen=True)
class Finding:
    """`needed` is False for what only some commands use; `command` installs it."""

    what: str
    found: str
    fine: bool
    needed: bool
    command: str

    @property
    def state(self) -> str:
        return "ok" if self.fine else "MISSING" if self.needed else "optional"


def examine() -> list[Finding]:
    """Every check, the needed ones first."""
    return sorted([*machine(), *packages(), *tools()], key=lambda finding: not finding.needed)


def machine() -> Iterator[Finding]:
    python = platform.python_version()
    yield Finding("Python >= 3.11", python, sys.version_info >= (3, 11), True, "apt-get install python3 python3-venv")
    has_avx2 = cpu_flags().issuperset(AVX2)
    yield Finding("CPU with AVX2", cpu_name(), has_avx2, False, "none: name a target to cross-compile, such as -t x86-avx2")


def packages() -> Iterator[Finding]:
    """What our package requires, and what its extras do."""
    seen: set[str] = set()
    for text in importlib.metadata.requires(PACKAGE) or []:
        requirement = Requirement(text)
        extra = requirement.marker is not None and "extra" in str(requirement.marker)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": name}) for name in ("", "dev", "bench")):
            continue
        plain = f"{requirement.name}{requirement.specifier}"
        if plain in seen:  # two extras ask for it
            continue
        seen.add(plain)
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = "-"
        fine = version != "-" and requirement.specifier.contains(version, prereleases=True)
        yield Finding(plain, version, fine, not extra, f"{sys.executable} -m pip install '{plain}'")


def tools() -> Iterator[Finding]:
    """Programs and drivers."""
    compiler, nvcc = found(find_cc), found(find_nvcc)
    yield Finding("C compiler", compiler or "-", compiler is not None, True, INSTALL)
    yield Finding("nvcc, for cuda targets", nvcc or "-", nvcc is not None, False, WHEELS)
    driver = find_library("cuda")
    yield Finding("NVIDIA driver, to run cuda targets", gpu() or driver or "-", driver is not None, False, "apt-get install nvidia-driver")
    yield from firmware_tools()


def firmware_tools() -> Iterator[Finding]:
    """What C projects are built, run and flashed with."""
    finders = {
        "arm-none-eabi-gcc, to build firmware": (toolchain.find_tool, toolchain.INSTALL),
        "newlib, to build firmware": (toolchain.find_newlib, toolchain.INSTALL),
        "qemu-system-arm, to run firmware": (qemu.find_qemu, qemu.INSTALL),
    }
    for what, (finder, command) in finders.items():
        place = found(finder)
        yield Finding(what, place or "-", place is not None, False, command)
    for name, tool in flash.TOOLS.items():
        place = shutil.which(name)
        yield Finding(f"{name}, to flash boards", place or "-", place is not None, False, tool.install)


def found(tool: Callable[[], Path]) -> str | None:
    try:
        return str(tool())
    except ToolMissing:
        return None


def gpu() -> str | None:
    """The names of the GPUs here."""
    if shutil.which("nvidia-smi") is None:
        return None
    done = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
    return ", ".join(done.stdout.split("\n")).strip(", ") if done.returncode == 0 else None
