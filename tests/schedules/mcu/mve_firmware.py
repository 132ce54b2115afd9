"""Many kernels in one firmware, run in QEMU: nothing else here executes the instructions of Helium, or of the DSP extension."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tvm import tirx

from schedules.machine import Machine
from schedules.mcu.intrinsics import used
from schedules.space import Point, Space
from stack.errors import ToolMissing
from targets.cortex_m import linker, toolchain
from targets.cortex_m.board import board_of
from targets.cortex_m.build import FIRMWARE, HARNESS
from targets.cortex_m.protocol import Session
from targets.cortex_m.qemu import Emulator, find_qemu
from targets.registry import find

Array = np.ndarray[Any, np.dtype[Any]]
M55 = Machine(thumb2=True, dsp=True, helium=True, fpu=True)
GUARD = 32
HEAD = """#include <string.h>
#include "harness.h"
const uint32_t model_operators = 0, model_input_count = 0, model_output_count = 1;
const struct buffer model_inputs[1];
void model_restart(void) {}
void model_guard(void) {}
int model_guards_whole(void) { return 1; }
"""


class Firmware:
    """Kernels and their inputs, in the order they were added; `run` gives what each wrote, and checks that it wrote nothing else."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.calls: list[str] = []
        self.places: list[tuple[int, int]] = []  # of each output in `memory`, and its size
        self.whole: list[tuple[str, int]] = []  # what must still hold 85: GUARD bytes at these
        self.end = 0

    def add(self, space: Space, point: Point, x: Array, constants: Sequence[Array], size: int, overlapped: bool = False) -> None:
        """A kernel that makes `size` bytes of the activation `x`, and of `constants`, packed where the space packs them.

        `overlapped`: over the activation, as far as the kernel allows.
        """
        number = len(self.calls)
        attributes = space.apply(point).mod["main"].attrs
        packed = space.pack(point, constants) if space.pack else constants
        names = [f"c{number}_{place}" for place in range(len(packed))]
        self.sources += [table(name, array) for name, array in zip([f"x{number}", *names], [x, *packed], strict=True)]
        self.sources.append(str(attributes["stack.c"]).replace("KERNEL", f"kernel{number}"))
        below = size
        if overlapped:
            below, exact = json.loads(str(attributes["stack.overlap"])).get("0", (size, False))
            assert not exact
            below = max(below, -x.size)
        x_at, y_at = (self.end + GUARD + max(0, distance) for distance in (below, -below))
        self.whole += [("memory", self.end)]
        self.end = max(x_at + x.size, y_at + size) + GUARD
        self.places.append((y_at, size))
        more = []
        if scratch := int(attributes["stack.scratch"]):
            self.sources.append(f"static int8_t s{number}[{scratch + 2 * GUARD}] __attribute__((aligned(16)));")
            self.calls.append(f"memset(s{number}, 85, sizeof s{number});")
            self.whole += [(f"s{number}", 0), (f"s{number}", scratch + GUARD)]
            more = [f"(void *)(s{number} + {GUARD})"]
        self.calls.append(f"memcpy(memory + {x_at}, x{number}, {x.size});")
        self.calls.append(f"kernel{number}({', '.join([f'memory + {x_at}', *names, f'memory + {y_at}', *more])});")

    def run(self, folder: Path, board: str = "mps3-an547") -> list[Array]:
        whole = [*self.whole, ("memory", self.end - GUARD)]
        text = [
            HEAD,
            *used(self.sources),
            f"static int8_t memory[{self.end}] __attribute__((aligned(16)));",
            f"const struct buffer model_outputs[1] = {{{{memory, {self.end}}}}};",
            *self.sources,
            "int model_call(void) {",
            "  memset(memory, 85, sizeof memory);",
            *("  " + call for call in self.calls),
            *(f"  for (int i = 0; i < {GUARD}; i++) if ({name}[{at} + i] != 85) return 3;" for name, at in whole),
            "  return 0;",
            "}",
        ]
        (folder / "kernels.c").write_text("\n".join(text) + "\n")
        emulator = Emulator(build(folder, board), board)
        memory = np.frombuffer(Session(emulator, 0, 0, self.end).run([], 0).outputs, np.int8)
        return [memory[at : at + size] for at, size in self.places]


def table(name: str, array: Array) -> str:
    values = ",".join(map(str, array.ravel().tolist()))
    return f"static const {array.dtype}_t {name}[] __attribute__((aligned(16))) = {{{values}}};"


def build(folder: Path, name: str) -> Path:
    board = board_of(find(name))
    core = toolchain.core_flags(board.core, board.fpu)
    harness = [FIRMWARE / name for name in (*HARNESS, "link_semihosting.c")]
    objects = [toolchain.compile_source(source, folder, [*core, *toolchain.FIRMWARE]) for source in harness]
    strict = [*core, *toolchain.OPTIMISE, *toolchain.PLAIN, "-Werror", f"-I{FIRMWARE}"]
    objects.append(toolchain.compile_source(folder / "kernels.c", folder, strict))
    script = folder / "board.ld"
    script.write_text(linker.script(board.name, board.memory))
    return toolchain.link(objects, script, folder / "kernels.elf", core)


def need_tools() -> None:
    """Skip, and say why, where there is no cross compiler or no QEMU."""
    for look in (toolchain.find_tool, find_qemu):
        try:
            look()
        except ToolMissing as missing:
            pytest.skip(f"{missing}")


def space(rule: Callable[[tirx.PrimFunc, Machine], Space | None], program: tirx.PrimFunc) -> Space:
    found = rule(program, M55)
    assert found is not None
    return found
