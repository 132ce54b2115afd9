"""What a board file says beyond its memories: the table [board], checked and typed.

[board]
clock_hz = 16_000_000                       # of the processor, as the harness and QEMU run it
qemu = "mps2-an386"                         # QEMU's machine, where it has one
emulate = "mps2-an386"                      # of a core: the board whose QEMU machine runs its code
interrupts = 82                             # the device's own, for the vector table
flash_with = { tool = "openocd", ... }      # targets/cortex_m/flash.py lists the tools
serial = { port = ["STLink"], speed = 115200 }  # what the serial port's description has in it
uart = { driver = "stm32", base = ..., divider = 139 }  # firmware/link_uart.c lists the drivers
setup = [["write", 0x4002_3830, 0x1, 0x1], ...]  # what makes the UART work: write, or await, the masked bits at an address: mask, value
boot = "rp2040"                             # what must stand at the beginning of flash
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from stack.errors import StackError
from targets.cortex_m.boot import BEGINNINGS
from targets.target import Memory, Target

V6M = {"cortex-m0", "cortex-m0plus"}
V7M = V6M | {"cortex-m3"}
V7EM = V7M | {"cortex-m4"}
V8M = V7EM | {"cortex-m7", "cortex-m23", "cortex-m33"}
CODE = {  # whose code each core runs: the M4's FPU lacks instructions that the M7's has, the M7 those of Armv8-M
    **dict.fromkeys(V6M, V6M),
    "cortex-m3": V7M,
    "cortex-m4": V7EM,
    "cortex-m7": V7EM | {"cortex-m7"},
    "cortex-m23": V6M | {"cortex-m23"},
    "cortex-m33": V8M,
    "cortex-m55": V8M | {"cortex-m55"},
}
NO_CYCLE_COUNTER = V6M | {"cortex-m23"}


@dataclass(frozen=True)
class Board:
    """One board, or where `memory` is empty one core."""

    name: str
    core: str
    fpu: bool
    memory: Sequence[Memory]
    summary: str = ""
    clock_hz: float = 0.0
    qemu: str = ""
    emulate: str = ""
    interrupts: int = 0
    flash_with: Mapping[str, Any] = field(default_factory=dict)
    serial: Mapping[str, Any] = field(default_factory=dict)
    uart: Mapping[str, Any] = field(default_factory=dict)
    setup: Sequence[tuple[str, int, int, int]] = ()
    boot: str = ""

    @property
    def has_cycle_counter(self) -> bool:
        """Whether the chip has DWT's CYCCNT, which Armv6-M, the M23 and QEMU lack."""
        return self.core not in NO_CYCLE_COUNTER and not self.qemu

    def memories(self, kind: str) -> list[Memory]:
        return [memory for memory in self.memory if memory.kind == kind]


FLASH_TOOLS = {"pyocd": ["target"], "openocd": ["interface", "target"], "bossac": ["port"], "picotool": ["volume"]}  # with what each needs
UART_DRIVERS = dict.fromkeys(("cmsdk", "stm32", "stm32_new", "nrf", "pl011"), ("base", "divider"))
TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("qemu", "emulate", "boot"), str),
    **dict.fromkeys(("flash_with", "serial", "uart"), dict),
    **{"clock_hz": (int, float), "interrupts": int, "setup": list},
}
KEYS = [entry.name for entry in fields(Board) if entry.name not in ("name", "core", "fpu", "memory", "summary")]


def recorded(manifest: Mapping[str, Any]) -> Board:
    """The board that a C project was compiled for, from what its manifest says of it: its file may be gone, or be another by now."""
    target = manifest["target"]
    memory = [Memory(**entry) for entry in target["memory"]]
    return Board(target["name"], target["codegen"]["mcpu"], manifest["machine"]["fpu"], memory, target["summary"], **target["board"])


def board_of(target: Target) -> Board:
    """The board, or the core, that a target of this family describes."""
    core, fpu = str(target.codegen["mcpu"]), target.machine.fpu
    entries: Mapping[str, Any] = target.board  # their types were checked when the file was read
    return Board(target.name, core, fpu, target.memory, target.summary, **entries)


def check_runs(code: str, fpu: bool, board: Board) -> None:
    """StackError where `board` lacks what code for the core `code` uses."""
    if code not in CODE[board.core] or (fpu and not board.fpu):
        raise StackError(
            f"the board '{board.name}' does not run code for {code}: it has a {board.core}",
            hint=f"compile the model again with -t {board.name}",
        )


def check_board(table: Mapping[str, Any], at: str) -> None:
    """StackError where a board file's table [board] has a key or value that means nothing, or lacks one that its tool needs."""
    for key, value in table.items():
        if key not in KEYS:
            close = get_close_matches(key, KEYS, n=1)
            raise StackError(
                f"unknown key '{key}' in [board]", at=at, hint=f"did you mean '{close[0]}'?" if close else f"the keys are {', '.join(KEYS)}"
            )
        if not isinstance(value, TYPES[key]):
            raise StackError(f"in [board], {key} = {value!r} is of the wrong type", at=at, hint="targets/cortex_m/board.py shows each key")
    if "qemu" in table and not table.get("clock_hz", 0) > 0:
        raise StackError("in [board], qemu needs clock_hz", at=at, hint="the clock of QEMU's machine, by which instructions are counted")
    for step in table.get("setup", ()):
        if not (isinstance(step, list) and [type(word) for word in step] == [str, int, int, int] and step[0] in ("write", "await")):
            raise StackError(f"in [board], setup has the step {step!r}", at=at, hint='a step is ["write" or "await", address, mask, value]')
    if "boot" in table and table["boot"] not in BEGINNINGS:
        raise StackError(f"boot knows no '{table['boot']}'", at=at, hint=f"it is {', '.join(BEGINNINGS)}, or absent as for most chips")
    for key, word, needs in (("flash_with", "tool", FLASH_TOOLS), ("uart", "driver", UART_DRIVERS)):
        if key in table:
            check_choice(key, word, table[key], needs, at)


def check_choice(key: str, word: str, table: Mapping[str, object], needs: Mapping[str, Sequence[str]], at: str) -> None:
    """StackError where `table`, the value of `key`, does not name one of `needs` as its `word`, or lacks a key that this one needs."""
    chosen = str(table.get(word, ""))
    if chosen not in needs:
        what = f"{key} has no '{word}'" if word not in table else f"{key} knows no {word} '{chosen}'"
        raise StackError(what, at=at, hint=f"the {word}s are {', '.join(needs)}")
    for needed in needs[chosen]:
        if needed not in table:
            raise StackError(f"{key} has no '{needed}'", at=at, hint=f"the {word} '{chosen}' needs {', '.join(needs[chosen])}")
