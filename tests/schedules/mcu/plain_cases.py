"""Layers for cores without the DSP extension, seeded constants, and a kernel compiled for this machine and run as a model would."""

import ctypes
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tvm import te, tirx

from schedules import integer
from schedules.integer import Conv2D, Depthwise
from schedules.machine import Machine
from schedules.mcu.intrinsics import used
from schedules.mcu.plain_conv import plain_conv
from schedules.mcu.plain_dense import plain_dense
from schedules.mcu.plain_depthwise import plain_depthwise
from schedules.rule import first_space
from schedules.space import Point, Space

Array = np.ndarray[Any, np.dtype[Any]]
Operator = Conv2D | Depthwise
M0, M3 = Machine(), Machine(thumb2=True)
FLAGS = ["-std=c99", "-O0", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fsanitize=undefined", "-fno-sanitize-recover"]


def conv(size: tuple[int, int, int], filters: int, kernel: tuple[int, int] = (1, 1), **fields: Any) -> Conv2D:
    """A layer on images of height, width and channels; `fields` are those of Conv2D that are not the usual ones."""
    return Conv2D(*_shape(size, filters, kernel, fields), **_numbers(kernel[0] * kernel[1] * size[2], fields))


def depthwise(size: tuple[int, int, int], kernel: tuple[int, int] = (3, 3), multiplier: int = 1, **fields: Any) -> Depthwise:
    """The same for a depthwise layer."""
    return Depthwise(*_shape(size, size[2] * multiplier, kernel, fields), **_numbers(kernel[0] * kernel[1], fields))


def _shape(size: tuple[int, int, int], filters: int, kernel: tuple[int, int], fields: dict[str, Any]) -> tuple[Any, ...]:
    strides, dilation, pad = fields.pop("strides", (1, 1)), fields.pop("dilation", (1, 1)), fields.pop("pad", (0, 0, 0, 0))
    outs = [
        (extent + before + after - (taps - 1) * dilate - 1) // stride + 1
        for extent, before, after, taps, dilate, stride in zip(size[:2], pad[:2], pad[2:], kernel, dilation, strides, strict=True)
    ]
    return (fields.pop("batch", 1), *size, *outs, filters, *kernel, strides, dilation, pad)


def _numbers(reduction: int, fields: dict[str, Any]) -> dict[str, Any]:
    usual = {"x_zero": -128, "y_zero": -128, "low": -128, "high": 127, "right_shifts": True, "narrow": True}
    return {**usual, "weight_sum": 1 << (128 * reduction - 1).bit_length(), **fields}


def program(op: Operator) -> tirx.PrimFunc:
    """A program with the parameters of `op`; its loops do not matter here."""
    taps = (op.kernel_h, op.kernel_w)
    x = te.placeholder((op.batch, op.height, op.width, op.channels), "int8", "x")
    w = te.placeholder((op.filters, *taps, op.channels) if isinstance(op, Conv2D) else (1, *taps, op.filters), "int8", "w")
    vectors = [te.placeholder((op.filters,), "int32", name) for name in ("bias", "multiplier", "shift")]
    y = te.compute((op.batch, op.out_height, op.out_width, op.filters), lambda n, i, j, f: w[0, 0, 0, 0] + x[n, 0, 0, 0], "y")
    return integer.describe(te.create_prim_func([x, w, *vectors, y]), op)


def constants(op: Operator, seed: int = 0) -> list[Array]:
    """w, bias, multiplier, shift: filters that use the whole range of the output, some that hardly reach it, and extreme ones."""
    rng = np.random.default_rng(seed)
    lowest = -127 if op.narrow else -128
    reduction = op.reduction if isinstance(op, Conv2D) else op.kernel_h * op.kernel_w
    largest = min(127, op.weight_sum // reduction)
    w = rng.integers(max(lowest, -largest - (largest == 127)), largest + 1, (op.filters, reduction))
    if largest == 127:
        w[rng.random(op.filters) < 0.15] = lowest
        w[rng.random(op.filters) < 0.15] = 127
    ratio = 2.0 ** rng.uniform(-2, 2, op.filters) / (np.sqrt(reduction) * 60)
    ratio[rng.random(op.filters) < 0.1] = 2e-7
    if not op.right_shifts:
        ratio[rng.random(op.filters) < 0.3] = 3.7
    mantissa, exponent = np.frexp(ratio)
    multiplier = np.minimum(np.round(mantissa * 2**31), 2**31 - 1)
    multiplier[rng.random(op.filters) < 0.1] = 1 << 30
    bias = rng.normal(0, 60, op.filters) / ratio - op.x_zero * w.sum(1)
    bias = np.clip(bias, -(2**29), 2**29) if op.right_shifts else np.clip(bias, -(2**26), 2**26)
    taps = (op.kernel_h, op.kernel_w)
    shaped = w.reshape(-1, *taps, op.channels) if isinstance(op, Conv2D) else w.T.reshape(1, *taps, op.filters)
    return [shaped.astype(np.int8), bias.astype(np.int32), multiplier.astype(np.int32), exponent.astype(np.int32)]


def images(op: Operator, seed: int = 0) -> Array:
    """Activations: noise, with some flat patches at either end of the range."""
    rng = np.random.default_rng(seed + 1)
    x = rng.integers(-128, 128, (op.batch, op.height, op.width, op.channels))
    x[rng.random(x.shape) < 0.2] = op.x_zero
    x[:, ::3, : op.width // 2] = rng.choice([-128, 127])
    return x.astype(np.int8)


def space(op: Operator, machine: Machine) -> Space:
    return first_space([plain_dense, plain_conv, plain_depthwise], program(op), machine)


def build(source: str, folder: Path) -> Any:
    """The kernel as a function of this process."""
    text = "#include <stdint.h>\n#include <string.h>\n" + "\n".join(used([source])) + "\n" + source
    (folder / "kernel.c").write_text(text.replace("static void KERNEL(", "void kernel("))
    library = folder / f"kernel{len(list(folder.iterdir()))}.so"
    subprocess.run(["gcc", *FLAGS, "-o", str(library), str(folder / "kernel.c")], check=True)
    return ctypes.CDLL(str(library)).kernel


def run(op: Operator, machine: Machine, point: Point, x: Array, values: Sequence[Array], folder: Path, overlapped: bool = False) -> Array:
    """The output of the kernel at `point`; `overlapped` puts it over the input as far as the kernel allows."""
    offered = space(op, machine)
    attributes = offered.apply(point).mod["main"].attrs
    assert offered.pack is not None
    packed = offered.pack(point, values)
    size, guard = op.pixels * op.filters, 64
    memory = np.full(2 * (x.size + size + 2 * guard), 85, np.int8)
    start, out = guard + size + guard, guard
    if overlapped:
        distance, _ = json.loads(str(attributes["stack.overlap"]))["0"]
        start = guard + max(0, -distance) + size
        out = start - distance
    memory[start : start + x.size] = x.ravel()
    before = memory.copy()
    scratch = np.full(int(attributes["stack.scratch"]) + 2 * guard, 85, np.int8)

    def pointer(array: np.ndarray, at: int = 0) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data + at)

    more = [pointer(scratch, guard)] if scratch.size > 2 * guard else []
    kept = [array.copy() for array in packed]
    build(str(attributes["stack.c"]), folder)(pointer(memory, start), *map(pointer, packed), pointer(memory, out), *more)
    assert (scratch[:guard] == 85).all()
    assert (scratch[-guard:] == 85).all()
    assert all(np.array_equal(*pair) for pair in zip(kept, packed, strict=True))
    y = memory[out : out + size].reshape(op.batch, op.out_height, op.out_width, op.filters).copy()
    memory[out : out + size] = before[out : out + size]
    if not overlapped:
        assert np.array_equal(memory, before)
    return y
