"""Depthwise convolutions with seeded constants, and a kernel compiled for this machine and run as a model would."""

import ctypes
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tvm import te, tirx

from schedules import integer
from schedules.integer import Depthwise
from schedules.machine import Machine
from schedules.mcu.dsp_depthwise import dsp_depthwise
from schedules.mcu.intrinsics import used
from schedules.space import Point, Space

Array = np.ndarray[Any, np.dtype[Any]]
M4 = Machine(thumb2=True, dsp=True, fpu=True)
FLAGS = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fsanitize=undefined", "-fno-sanitize-recover"]


def depthwise(
    size: tuple[int, int, int],
    kernel: tuple[int, int] = (3, 3),
    strides: tuple[int, int] = (1, 1),
    pad: tuple[int, int, int, int] = (1, 1, 1, 1),
    dilation: tuple[int, int] = (1, 1),
    multiplier: int = 1,
    batch: int = 1,
    **fields: Any,
) -> Depthwise:
    """The description of one layer on images of height, width and channels."""
    height, width, channels = size
    outs = [
        (extent + before + after - (taps - 1) * dilate - 1) // stride + 1
        for extent, before, after, taps, dilate, stride in zip((height, width), pad[:2], pad[2:], kernel, dilation, strides, strict=True)
    ]
    defaults: dict[str, Any] = {"x_zero": -128, "y_zero": -128, "low": -128, "high": 127, "right_shifts": True, "narrow": True}
    bound = 1 << (127 * kernel[0] * kernel[1] - 1).bit_length()
    shape = (batch, height, width, channels, *outs, channels * multiplier, *kernel)
    return Depthwise(*shape, strides, dilation, pad, **{**defaults, "weight_sum": bound, **fields})


def program(op: Depthwise) -> tirx.PrimFunc:
    """A program with the parameters of `op`; its loops do not matter here."""
    x = te.placeholder((op.batch, op.height, op.width, op.channels), "int8", "x")
    w = te.placeholder((1, op.kernel_h, op.kernel_w, op.filters), "int8", "w")
    vectors = [te.placeholder((op.filters,), "int32", name) for name in ("bias", "multiplier", "shift")]
    y = te.compute((op.batch, op.out_height, op.out_width, op.filters), lambda n, i, j, f: w[0, 0, 0, f] + x[n, 0, 0, 0], "y")
    return integer.describe(te.create_prim_func([x, w, *vectors, y]), op)


def constants(op: Depthwise, seed: int = 0) -> list[Array]:
    """w, bias, multiplier, shift: outputs that use their whole range, channels that hardly reach it, and extreme ones."""
    rng = np.random.default_rng(seed)
    taps = op.kernel_h * op.kernel_w
    w = rng.integers(-127 if op.narrow else -128, 128, (1, op.kernel_h, op.kernel_w, op.filters))
    w[..., rng.random(op.filters) < 0.2] = 127
    ratio = 2.0 ** rng.uniform(-2, 2, op.filters) / (np.sqrt(taps) * 60)
    ratio[rng.random(op.filters) < 0.1] = 2e-7
    if not op.right_shifts:
        ratio[rng.random(op.filters) < 0.3] = 3.7
    mantissa, exponent = np.frexp(ratio)
    multiplier = np.minimum(np.round(mantissa * 2**31), 2**31 - 1)
    multiplier[rng.random(op.filters) < 0.1] = 1 << 30
    middle = rng.normal(0, 60, op.filters) / ratio - op.x_zero * w[0].sum((0, 1))
    return [w.astype(np.int8), np.clip(middle, -(2**29), 2**29).astype(np.int32), multiplier.astype(np.int32), exponent.astype(np.int32)]


def images(op: Depthwise, seed: int = 0) -> Array:
    """Activations: noise, with some flat patches at either end of the range."""
    rng = np.random.default_rng(seed + 1)
    x = rng.integers(-128, 128, (op.batch, op.height, op.width, op.channels))
    x[rng.random(x.shape) < 0.2] = op.x_zero
    x[:, ::3, : op.width // 2] = rng.choice([-128, 127])
    return x.astype(np.int8)


def space(op: Depthwise) -> Space:
    found = dsp_depthwise(program(op), M4)
    assert found is not None
    return found


def build(source: str, folder: Path) -> Any:
    """The kernel as a function of this process."""
    text = "#include <stdint.h>\n#include <string.h>\n" + "\n".join(used([source])) + "\n" + source
    (folder / "kernel.c").write_text(text.replace("static void KERNEL", "void kernel"))
    library = folder / f"kernel{len(list(folder.iterdir()))}.so"
    subprocess.run(["gcc", *FLAGS, "-o", str(library), str(folder / "kernel.c")], check=True)
    return ctypes.CDLL(str(library)).kernel


def run(op: Depthwise, point: Point, x: Array, values: Sequence[Array], folder: Path, overlapped: bool = False) -> Array:
    """The output of the kernel at `point`; `overlapped` puts it over the input as the kernel allows at most."""
    offered = space(op)
    attributes = offered.apply(point).mod["main"].attrs
    assert offered.pack is not None
    packed = offered.pack(point, values)
    overlap = json.loads(str(attributes["stack.overlap"]))
    size, guard = op.pixels * op.filters, 64
    memory = np.full(x.size + size + 2 * guard, 85, np.int8)
    start = guard if overlapped else guard + size
    if overlapped:
        assert overlap == {"0": [0, True]}
    memory[start : start + x.size] = x.ravel()
    scratch = np.full(int(attributes["stack.scratch"]) + 2 * guard, 85, np.int8)

    def pointer(array: np.ndarray, at: int = 0) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data + at)

    more = [pointer(scratch, guard)] if scratch.size > 2 * guard else []
    before = [array.copy() for array in packed]
    build(str(attributes["stack.c"]), folder)(pointer(memory, start), *map(pointer, packed), pointer(memory, guard), *more)
    for guarded in (memory, scratch):
        assert (guarded[:guard] == 85).all()
        assert (guarded[-guard:] == 85).all()
    assert all(np.array_equal(*pair) for pair in zip(before, packed, strict=True))
    return memory[guard : guard + size].reshape(op.batch, op.out_height, op.out_width, op.filters).copy()
