"""A TensorIR program printed as C, compiled for this machine with every warning an error and undefined behaviour trapped, and run."""

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import te, tirx

from schedules.mcu.intrinsics import used
from stack.emit.c_printer import print_kernel

Array = np.ndarray[Any, np.dtype[Any]]
FLAGS = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
TRAPS = ["-fsanitize=undefined", "-fno-sanitize-recover"]
ARM = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-O2", "-std=c99", "-Wall", "-Wextra", "-Werror", "-c"]


def program(inputs: Sequence[te.Tensor], *outputs: te.Tensor) -> tirx.PrimFunc:
    return te.create_prim_func([*inputs, *outputs])


def c_source(function: tirx.PrimFunc) -> tuple[str, int]:
    """A translation unit with `run`, which takes pointers to all parameters and to scratch memory; and the bytes of that."""
    printed = print_kernel(function, "run")
    text, scratch = str(printed.attrs["stack.c"]), int(printed.attrs["stack.scratch"])
    count = len(function.params) + bool(scratch)
    call = ", ".join(f"p[{index}]" for index in range(count))
    parts = ["#include <math.h>\n#include <stdint.h>\n#include <string.h>", *used([text]), text]
    return "\n\n".join([*parts, f"void run(void **p) {{ KERNEL({call}); }}"]) + "\n", scratch


def run_c(function: tirx.PrimFunc, arrays: Sequence[Array], folder: Path) -> Array:
    """The last parameter after the program ran in C on the others."""
    text, scratch = c_source(function)
    source, library = folder / "run.c", folder / f"run{abs(hash(text))}.so"
    source.write_text(text)
    subprocess.run(["gcc", *FLAGS, *TRAPS, str(source), "-o", str(library), "-lm"], check=True)
    held = [*[np.ascontiguousarray(array) for array in arrays], empty(function), np.zeros(scratch // 8 + 1, np.int64)]
    pointers = (ctypes.c_void_p * len(held))(*[array.ctypes.data for array in held])
    ctypes.CDLL(str(library)).run(pointers)
    return held[-2]


def run_tvm(function: tirx.PrimFunc, arrays: Sequence[Array]) -> Array:
    """The same through TVM's own code generator."""
    out = tvm.runtime.tensor(empty(function))
    tvm.compile(function, target="llvm")(*[tvm.runtime.tensor(np.ascontiguousarray(array)) for array in arrays], out)
    return out.numpy()


def empty(function: tirx.PrimFunc) -> Array:
    y = function.params[-1]
    return np.zeros([int(extent) for extent in y.shape], str(y.dtype))


def values(inputs: Sequence[te.Tensor], seed: int = 0) -> list[Array]:
    """Seeded arrays: integers over their whole range, but 20 bits of it at most, and floats around zero."""
    rng = np.random.default_rng(seed)
    made = []
    for x in inputs:
        shape, dtype = tuple(int(extent) for extent in x.shape), np.dtype(str(x.dtype))
        if dtype.kind == "f":
            made.append((rng.standard_normal(shape) * 2).astype(dtype))
        elif dtype.kind == "b":
            made.append(rng.integers(0, 2, shape).astype(dtype))
        else:
            info = np.iinfo(dtype)
            made.append(rng.integers(max(info.min, -(1 << 19)), min(info.max, 1 << 19) + 1, shape).astype(dtype))
    return made
