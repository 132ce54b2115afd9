"""Many Helium kernels in one firmware, run in QEMU's MPS3: there is nothing else here that executes their instructions."""

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
    """Kernels and their inputs, in the order they were added; `run` gives what each wrote, with `GUARD` bytes before and after."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self.calls: list[str] = []
        self.sizes: list[int] = []
        self.scratch: list[tuple[str, int]] = []

    def add(self, space: Space, point: Point, x: Array, constants: Sequence[Array], size: int) -> None:
        """A kernel that makes `size` bytes of the activation `x`."""
        number = len(self.calls)
        attributes = space.apply(point).mod["main"].attrs
        assert space.pack is not None
        packed = space.pack(point, constants)
        names = [f"x{number}", *(f"c{number}_{place}" for place in range(len(packed)))]
        arrays = [table(name, array) for name, array in zip(names, [x, *packed], strict=True)]
        scratch = int(attributes["stack.scratch"])
        own = [f"static int8_t s{number}[{scratch + 2 * GUARD}] __attribute__((aligned(16)));"] if scratch else []
        self.sources += [*arrays, *own, str(attributes["stack.c"]).replace("KERNEL", f"kernel{number}")]
        begin = sum(self.sizes) + GUARD * (2 * number + 1)
        more = [f"s{number} + {GUARD}"] if scratch else []
        self.calls.append(f"  kernel{number}({', '.join([*names, f'y + {begin}', *more])});")
        if scratch:
            self.calls[-1] = f"  memset(s{number}, 85, sizeof s{number});\n{self.calls[-1]}"
            self.scratch.append((f"s{number}", scratch + GUARD))
        self.sizes.append(size)

    def run(self, folder: Path) -> list[Array]:
        total = sum(self.sizes) + 2 * GUARD * len(self.sizes)
        checks = [line for name, size in self.scratch for line in check(name, size)]
        text = [
            HEAD,
            *used(self.sources),
            f"static int8_t y[{total}] __attribute__((aligned(16)));",
            f"const struct buffer model_outputs[1] = {{{{y, {total}}}}};",
            *self.sources,
            "int model_call(void) {",
            "  memset(y, 85, sizeof y);",
            *self.calls,
            *checks,
            "  return 0;",
            "}",
        ]
        (folder / "kernels.c").write_text("\n".join(text) + "\n")
        answer = Session(Emulator(build(folder), "mps3-an547"), 0, 0, total).run([], 0)
        memory = np.frombuffer(answer.outputs, np.int8)
        ends = np.cumsum([size + 2 * GUARD for size in self.sizes])
        return [memory[end - size - 2 * GUARD : end] for end, size in zip(ends, self.sizes, strict=True)]


def check(name: str, end: int) -> list[str]:
    """C that fails where something is written before or behind a scratch memory."""
    return [f"  for (int i = 0; i < {GUARD}; i++) if ({name}[i] != 85 || {name}[{end} + i] != 85) return 3;"]


def table(name: str, array: Array) -> str:
    values = ",".join(map(str, array.ravel().tolist()))
    return f"static const {array.dtype}_t {name}[] __attribute__((aligned(16))) = {{{values}}};"


def build(folder: Path) -> Path:
    board = board_of(find("mps3-an547"))
    core = toolchain.core_flags("cortex-m55", fpu=True)
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
