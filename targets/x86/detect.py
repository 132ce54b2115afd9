"""Read this machine: vector width and features from the kernel's flags, caches from sysfs, the clock by counting.

    this_machine() -> Target(name="x86", machine=Machine(cores=2, vector_bytes=64, ...), features=("avx2", "avx512f", ...))
"""

import os
import platform
import re
from functools import cache
from pathlib import Path

from schedules.machine import Machine
from stack.errors import StackError
from targets.target import Target

CPU = Path("/sys/devices/system/cpu/cpu0")

# What code for a target may use, in the words of /proc/cpuinfo; each level includes the ones before it.
# Source: the x86-64 psABI's micro-architecture levels, and Intel's Instruction Set Extensions reference for VNNI and BF16.
AVX2 = ("avx2", "fma", "f16c", "bmi2")
AVX512 = (*AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl")
VNNI = (*AVX512, "avx512_vnni")


@cache
def cpu_flags() -> frozenset[str]:
    """Features of this CPU in the kernel's words; empty where there is no /proc/cpuinfo."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    match = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return frozenset(match.group(1).split()) if match else frozenset()


def cpu_name() -> str:
    """The model name as the vendor writes it."""
    match = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match.group(1) if match else platform.processor()


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


def cache_bytes(level: int, default: int) -> int:
    """Bytes of the data or unified cache at `level` of the first core."""
    for index in CPU.glob("cache/index*"):
        if int((index / "level").read_text()) == level and (index / "type").read_text().strip() != "Instruction":
            number, unit = re.fullmatch(r"(\d+)([KMG]?)", (index / "size").read_text().strip()).groups()  # type: ignore[union-attr]
            return int(number) << {"": 0, "K": 10, "M": 20, "G": 30}[unit]
    return default


def clock_ghz() -> float:
    """The maximum the kernel knows, else the clock it names, else a guess; for rooflines only."""
    try:
        return int((CPU / "cpufreq/cpuinfo_max_freq").read_text()) / 1e6
    except OSError:
        match = re.search(r"^cpu MHz\s*:\s*([\d.]+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return float(match.group(1)) / 1e3 if match else 2.5


@cache
def this_machine() -> Target:
    """The machine this process runs on, as a target called `x86`."""
    flags = cpu_flags()
    if not flags.issuperset(AVX2):
        raise StackError(
            "target 'x86' means this machine, and it lacks AVX2 and FMA",
            at=f"{platform.machine()}, flags in /proc/cpuinfo",
            hint="name a target to cross-compile, such as -t x86-avx2; `stackc targets` lists them",
        )
    features = next(level for level in (VNNI, AVX512, AVX2) if flags.issuperset(level))
    wide = "avx512f" in features
    return Target(
        name="x86",
        family="x86",
        summary=f"this machine: {cpu_name()}",
        codegen={"kind": "llvm", "mcpu": host_cpu()},
        machine=Machine(
            cores=usable_cores(),
            vector_bytes=64 if wide else 32,
            vector_registers=32 if wide else 16,
            fma_ports=2,
            l1_bytes=cache_bytes(1, 32 << 10),
            l2_bytes=cache_bytes(2, 1 << 20),
            l3_bytes=cache_bytes(3, 8 << 20),
            int8_dot="avx512_vnni" in features,
            ghz=clock_ghz(),
        ),
        features=tuple(sorted(set(features) | {flag for flag in EXTRA if flag in flags})),
    )


# Features beyond the levels that LLVM uses once it is told this CPU's name; a library for `x86` needs them too.
EXTRA = (
    "avx512_bf16", "avx512_fp16", "avx512cd", "avx512_bitalg", "avx512_vbmi2", "avx512_vpopcntdq", "avx512ifma", "avx512vbmi",
    "avx_vnni", "gfni", "vaes", "vpclmulqdq",
)  # fmt: skip


def host_cpu() -> str:
    """LLVM's name for this CPU."""
    import tvm

    return str(tvm.get_global_func("target.llvm_get_system_cpu")())
