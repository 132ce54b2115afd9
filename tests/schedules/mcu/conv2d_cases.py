"""Convolutions with seeded constants, and a kernel run over memory in which its output may lie over its input."""

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tvm import te, tirx

from schedules import integer
from schedules.integer import Conv2D
from schedules.machine import Machine
from schedules.mcu.dsp_conv2d import dsp_conv2d
from schedules.mcu.intrinsics import used
from schedules.space import Point, Space

Array = np.ndarray[Any, np.dtype[Any]]
M4 = Machine(thumb2=True, dsp=True, fpu=True)
GUARD = 64
FLAGS = ["-std=c99", "-O0", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fsanitize=undefined", "-fno-sanitize-recover"]


def pointer(array: Array, at: int = 0) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data + at)


def conv2d(
    size: tuple[int, int, int],
    filters: int,
    kernel: tuple[int, int] = (3, 3),
    strides: tuple[int, int] = (1, 1),
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    batch: int = 1,
    **fields: Any,
) -> Conv2D:
    """The description of one layer on images of height, width and channels."""
    height, width, channels = size
    outs = [
        (extent + before + after - (taps - 1) * dilate - 1) // stride + 1
        for extent, before, after, taps, dilate, stride in zip((height, width), pad[:2], pad[2:], kernel, dilation, strides, strict=True)
    ]
    defaults: dict[str, Any] = {"x_zero": -9, "y_zero": 5, "low": -128, "high": 127, "right_shifts": True, "narrow": True}
    bound = 1 << (127 * kernel[0] * kernel[1] * channels - 1).bit_length()
    shape = (batch, height, width, channels, *outs, filters, *kernel)
    return Conv2D(*shape, strides, dilation, pad, **{**defaults, "weight_sum": bound, **fields})


def pointwise(pixels: int, channels: int, filters: int, **fields: Any) -> Conv2D:
    return conv2d((1, pixels, channels), filters, (1, 1), **fields)


def program(op: Conv2D) -> tirx.PrimFunc:
    """A program with the parameters of `op`; its loops do not matter here."""
    x = te.placeholder((op.batch, op.height, op.width, op.channels), "int8", "x")
    w = te.placeholder((op.filters, op.kernel_h, op.kernel_w, op.channels), "int8", "w")
    vectors = [te.placeholder((op.filters,), "int32", name) for name in ("bias", "multiplier", "shift")]
    y = te.compute((op.batch, op.out_height, op.out_width, op.filters), lambda n, i, j, f: w[f, 0, 0, 0] + x[n, 0, 0, 0], "y")
    return integer.describe(te.create_prim_func([x, w, *vectors, y]), op)


def space(op: Conv2D) -> Space:
    found = dsp_conv2d(program(op), M4)
    assert found is not None
    return found


def constants(op: Conv2D, seed: int = 0) -> list[Array]:
    """w, bias, multiplier, shift: outputs that use their whole range, channels that hardly reach it, and extreme ones."""
    rng = np.random.default_rng(seed)
    w = rng.integers(-127 if op.narrow else -128, 128, (op.filters, op.kernel_h, op.kernel_w, op.channels))
    w[rng.random(op.filters) < 0.2] = 127
    w[rng.random(op.filters) < 0.2] = -127 if op.narrow else -128
    assert int(np.abs(w).reshape(op.filters, -1).sum(axis=1).max()) <= op.weight_sum
    ratio = 2.0 ** rng.uniform(-2, 2, op.filters) / (np.sqrt(op.reduction) * 60)
    ratio[rng.random(op.filters) < 0.1] = 3e-9
    if not op.right_shifts:
        ratio[rng.random(op.filters) < 0.3] = rng.choice([0.7, 1.5, 3.7])
    mantissa, exponent = np.frexp(np.minimum(ratio, 0.49) if op.right_shifts else ratio)
    multiplier = np.minimum(np.round(mantissa * 2**31), 2**31 - 1)
    multiplier[rng.random(op.filters) < 0.1] = 1 << 30
    multiplier[rng.random(op.filters) < 0.05] = 0
    middle = rng.normal(0, 60, op.filters) / ratio - op.x_zero * w.reshape(op.filters, -1).sum(axis=1)
    limit = 2**31 - 1 - 128 * op.weight_sum if op.right_shifts else 2**24
    return [w.astype(np.int8), np.clip(middle, -limit, limit).astype(np.int32), multiplier.astype(np.int32), exponent.astype(np.int32)]


def images(op: Conv2D, seed: int = 0) -> Array:
    """Activations: noise, with patches at either end of the range."""
    rng = np.random.default_rng(seed + 1)
    x = rng.integers(-128, 128, (op.batch, op.height, op.width, op.channels))
    x[:, ::3, : op.width // 2] = rng.choice([-128, 127])
    return x.astype(np.int8)


def compiled(op: Conv2D, points: Sequence[Point], folder: Path) -> list[Any]:
    """The kernels at `points` as functions of this process."""
    sources = [str(space(op).apply(point).mod["main"].attrs["stack.c"]) for point in points]
    named = [source.replace("static void KERNEL", f"void kernel{index}") for index, source in enumerate(sources)]
    text = ["#include <stdint.h>", "#include <string.h>", *used(sources), *named]
    file, library = folder / "kernels.c", folder / f"kernels{len(list(folder.iterdir()))}.so"
    file.write_text("\n".join(text))
    subprocess.run(["gcc", *FLAGS, "-o", str(library), str(file)], check=True)
    loaded = ctypes.CDLL(str(library))
    return [getattr(loaded, f"kernel{index}") for index in range(len(points))]


def run(op: Conv2D, point: Point, kernel: Any, x: Array, values: Sequence[Array], below: int | None = None) -> Array:
    """The output of the kernel compiled at `point`, which begins `below` bytes below the input; None: out of its way."""
    offered = space(op)
    attributes = offered.apply(point).mod["main"].attrs
    assert offered.pack is not None
    packed = offered.pack(point, values)
    size = op.pixels * op.filters
    below = size if below is None else below
    y_at, x_at = GUARD + max(-below, 0), GUARD + max(below, 0)
    memory = np.full(max(y_at + size, x_at + x.size) + GUARD, 85, np.int8)
    memory[x_at : x_at + x.size] = x.ravel()
    scratch = np.full(int(attributes["stack.scratch"]) + 2 * GUARD, 85, np.int8)
    more = [pointer(scratch, GUARD)] if scratch.size > 2 * GUARD else []
    before = [array.copy() for array in packed]
    outside = memory.copy()
    kernel(pointer(memory, x_at), *map(pointer, packed), pointer(memory, y_at), *more)
    found = memory[y_at : y_at + size].copy()
    memory[y_at : y_at + size] = outside[y_at : y_at + size]
    assert np.array_equal(memory, outside), "written outside the output"
    assert (scratch[[*range(GUARD), *range(-GUARD, 0)]] == 85).all(), "written outside the scratch memory"
    assert all(np.array_equal(*pair) for pair in zip(before, packed, strict=True))
    return found.reshape(op.batch, op.out_height, op.out_width, op.filters)
