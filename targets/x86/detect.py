"""Read this machine: vector width and features from the kernel's flags, caches and clock from sysfs.

    this_machine() -> Target(name="x86", machine=Machine(cores=2, vector_bytes=64, ...), features=("avx2", "avx512f", ...))

Only the name that LLVM has for this CPU needs TVM; the rest serves where libraries run.
"""

import os
import platform
import re
from dataclasses import replace
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
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return match.group(1) if match else platform.processor() or platform.machine()


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


def cache_bytes(level: int, default: int) -> int:
    """Bytes of the data or unified cache at `level` of the first core."""
    for index in CPU.glob("cache/index*"):
        if int((index / "level").read_text()) == level and (index / "type").read_text().strip() != "Instruction":
            size = re.fullmatch(r"(\d+)([KMG]?)", (index / "size").read_text().strip())
            assert size, "Linux writes sizes of caches as 48K"
            number, unit = size.groups()
            return int(number) << {"": 0, "K": 10, "M": 20, "G": 30}[unit]
    return default


def clock_ghz() -> float:
    """The maximum the kernel knows, else the clock in the CPU's name, else a guess. What /proc/cpuinfo says of the moment would make
    each compile's manifest another."""
    try:
        return int((CPU / "cpufreq/cpuinfo_max_freq").read_text()) / 1e6
    except OSError:
        match = re.search(r"@ ([\d.]+)GHz", cpu_name())
        return float(match.group(1)) if match else 2.5


@cache
def describe_machine() -> Target:
    """The machine this process runs on, but for what only a code generator knows: needs no TVM."""
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
        codegen={},
        machine=Machine(
            cores=usable_cores(),
            vector_bytes=64 if wide else 32,
            vector_registers=32 if wide else 16,
            fma_ports=2,
            l1_bytes=cache_bytes(1, 32 << 10),
            l2_bytes=cache_bytes(2, 1 << 20),
            l3_bytes=cache_bytes(3, 8 << 20),
            int8_dot="avx512_vnni" in features,
            bf16_dot=flags.issuperset((*AVX512, "avx512_bf16")),
            ghz=clock_ghz(),
        ),
        features=tuple(sorted(set(features) | flags.intersection(LLVM_FEATURES.values()))),
    )


@cache
def this_machine() -> Target:
    """The machine this process runs on, as a target called `x86`."""
    described = describe_machine()
    return replace(described, codegen={"kind": "llvm", "mcpu": host_cpu(frozenset(described.features))})


# What LLVM may use once it is told a CPU's name, beyond the levels above: its word, then the kernel's.
LLVM_FEATURES = {
    "bmi": "bmi1", "lzcnt": "abm", "movbe": "movbe", "avx512f": "avx512f", "avx512bw": "avx512bw", "avx512cd": "avx512cd",
    "avx512dq": "avx512dq", "avx512vl": "avx512vl", "avx512vnni": "avx512_vnni", "avx512bf16": "avx512_bf16", "avx512fp16": "avx512_fp16",
    "avx512bitalg": "avx512_bitalg", "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi", "avx512vbmi2": "avx512_vbmi2",
    "avx512vpopcntdq": "avx512_vpopcntdq", "avxvnni": "avx_vnni", "gfni": "gfni", "vaes": "vaes", "vpclmulqdq": "vpclmulqdq",
}  # fmt: skip


def host_cpu(features: frozenset[str]) -> str:
    """LLVM's name for this CPU; the psABI level instead where a hypervisor hides something that the named CPU has."""
    import tvm

    name = str(tvm.get_global_func("target.llvm_get_system_cpu")())
    implied = tvm.get_global_func("target.llvm_get_cpu_features")(tvm.target.Target({"kind": "llvm", "mcpu": name}))
    return choose_cpu(name, frozenset(map(str, implied)), features)


def choose_cpu(name: str, implied: frozenset[str], features: frozenset[str]) -> str:
    """`name` where `features` has everything that it implies."""
    if all(kernel in features for llvm, kernel in LLVM_FEATURES.items() if llvm in implied):
        return name
    level4 = {LLVM_FEATURES[llvm] for llvm in ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")}
    return "x86-64-v4" if features.issuperset(level4) else "x86-64-v3"
