"""The instruction of a core and the portable C of an intrinsic agree on any arguments: nothing else runs both."""

import ctypes
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tvm.script import tirx as T

from schedules.mcu.intrinsics import INTRINSICS, used
from schedules.mcu.kernel import Kernel, as_schedule
from schedules.space import Space
from stack.emit.cc import find_cc
from tests.firmware_tools import need_firmware_tools
from tests.schedules.mcu.mve_firmware import Firmware

EDGES = np.array([0, 1, -1, 127, -128, 255, 32767, -32768, 1 << 30, (1 << 30) - 1, (1 << 31) - 1, -(1 << 31)], np.int64)
LIMITS = {  # of the arguments, where not every int32 is one
    "stack_requantize": ((-(1 << 31), 1 << 31), (0, 1 << 31), (-31, 1)),
    "stack_rescale_halves": ((-(1 << 31), 1 << 31), (0, 1 << 31), (0, 1 << 30), (1, 31)),
}


@T.prim_func
def nothing() -> None:
    T.evaluate(0)


def signatures() -> dict[str, int]:
    """The functions of int32 with instructions of their own, and how many arguments they take."""
    found = {}
    for name, text in INTRINSICS.items():
        head = re.search(rf"static inline int(?:8|16|32)_t {name}\(([^)]*)\)", text)
        if head and "__ARM" in text and all(part.strip().startswith("int32_t ") for part in head[1].split(",")):
            found[name] = head[1].count(",") + 1
    return found


def arguments(name: str, count: int, times: int, rng: np.random.Generator) -> np.ndarray:
    columns = []
    for place in range(count):
        low, high = LIMITS[name][place] if name in LIMITS else (-(1 << 31), 1 << 31)
        values = np.where(rng.random(times) < 0.4, rng.choice(EDGES, times), rng.integers(low, high, times) >> rng.integers(0, 24, times))
        columns.append(np.clip(values, low, high - 1))
    return np.stack(columns, axis=1).astype(np.int32)


def source(name: str, count: int, times: int) -> str:
    given = ", ".join(f"v[{place}]" for place in range(count))
    return f"""static void KERNEL(const int8_t *x, int8_t *y) {{
  for (int i = 0; i < {times}; i++) {{
    int32_t v[{count}], result;
    memcpy(v, x + i * sizeof v, sizeof v);
    result = {name}({given});
    memcpy(y + i * 4, &result, 4);
  }}
}}
"""


def on_this_machine(names: dict[str, int], inputs: list[np.ndarray], folder: Path) -> list[np.ndarray]:
    bodies = [
        source(name, count, len(inputs[0])).replace("static void KERNEL", f"void f{index}")
        for index, (name, count) in enumerate(names.items())
    ]
    text = "\n".join(["#include <stdint.h>", "#include <string.h>", "#include <math.h>", *used(bodies), *bodies])
    (folder / "portable.c").write_text(text)
    made = folder / "portable.so"
    subprocess.run([str(find_cc()), "-O1", "-fwrapv", "-shared", "-fPIC", "-o", str(made), str(folder / "portable.c"), "-lm"], check=True)
    dll, results = ctypes.CDLL(str(made)), []
    for index, given in enumerate(inputs):
        result = np.empty(len(given), np.int32)
        getattr(dll, f"f{index}")(ctypes.c_void_p(given.ctypes.data), ctypes.c_void_p(result.ctypes.data))
        results.append(result)
    return results


@pytest.mark.parametrize(("board", "times"), [("mps2-an386", 400), ("mps3-an547", 400), ("mps2-an385", 400), ("microbit", 30)])
def test_instructions_agree_with_portable_c(board: str, times: int, tmp_path: Path) -> None:
    need_firmware_tools()
    names, rng, firmware = signatures(), np.random.default_rng(0), Firmware()
    assert len(names) > 8
    inputs = [arguments(name, count, times, rng) for name, count in names.items()]
    for (name, count), given in zip(names.items(), inputs, strict=True):
        kernel = Kernel(source(name, count, times))
        space = Space("intrinsic", {}, lambda _point, kernel=kernel: as_schedule(nothing, kernel))
        firmware.add(space, {}, given.reshape(-1).view(np.int8), [], 4 * times)
    expected = on_this_machine(names, inputs, tmp_path)
    for name, given, want, got in zip(names, inputs, expected, firmware.run(tmp_path, board), strict=True):
        wrong = np.flatnonzero(np.asarray(got).view(np.int32) != want)
        assert not len(wrong), f"{name}{tuple(given[wrong[0]])}"
