"""What a board file says beyond its memories: the table [board], checked and typed.

[board]
clock_hz = 16_000_000                       # of the processor, as the harness and QEMU run it
qemu = "mps2-an386"                         # QEMU's machine, where it has one
emulate = "mps2-an386"                      # of a core: the board whose QEMU machine runs its code
interrupts = 82                             # the device's own, for the vector table
flash_with = { tool = "openocd", ... }      # targets/cortex_m/flash.py lists the tools
serial = { port = ["STLink"], speed = 115200 }  # what the serial port's description has in it
uart = { driver = "stm32", base = ..., divider = 139 }  # firmware/link_uart.c lists the drivers
setup = [[0x4002_3830, 0x1, 0x1], ...]      # register writes that make the UART work: address, mask, value
boot = "rp2040"                             # what must stand at the beginning of flash
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from stack.errors import StackError
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


KEYS = [entry.name for entry in fields(Board) if entry.name not in ("name", "core", "fpu", "memory", "summary")]


def board_of(target: Target) -> Board:
    """The board, or the core, that a target of this family describes."""
    core, fpu = str(target.codegen["mcpu"]), target.machine.fpu
    return Board(target.name, core, fpu, target.memory, target.summary, **target.board)  # type: ignore[arg-type]


def check_runs(code: str, fpu: bool, board: Board) -> None:
    """StackError where `board` lacks what code for the core `code` uses."""
    if code not in CODE[board.core] or (fpu and not board.fpu):
        raise StackError(
            f"the board '{board.name}' does not run code for {code}: it has a {board.core}",
            hint=f"compile the model again with -t {board.name}",
        )


def check_board(table: Mapping[str, object], at: str) -> None:
    """StackError where a board file's table [board] has a key that means nothing."""
    for key in table:
        if key not in KEYS:
            close = get_close_matches(key, KEYS, n=1)
            raise StackError(
                f"unknown key '{key}' in [board]", at=at, hint=f"did you mean '{close[0]}'?" if close else f"the keys are {', '.join(KEYS)}"
            )
