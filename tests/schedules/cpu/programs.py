"""Build one tensor program as the native container does, and run it over NumPy arrays."""

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import tvm
from tvm import te, tirx

from schedules.cpu import RULES
from schedules.machine import Machine
from schedules.rule import first_space
from schedules.space import Point, Space
from stack.emit import kernels
from targets.x86.detect import cpu_flags

AVX2 = Machine(cores=2, vector_bytes=32, vector_registers=16)
AVX512 = Machine(cores=2, vector_bytes=64, vector_registers=32)
CODEGEN = {AVX2: "haswell", AVX512: "skylake-avx512"}
MACHINES = [machine for machine in (AVX2, AVX512) if machine is AVX2 or "avx512f" in cpu_flags()]
RUNTIME = Path(kernels.__file__).parents[1] / "runtime"


def program(compute: Callable[..., te.Tensor], *inputs: np.ndarray) -> tirx.PrimFunc:
    """The program of a tensor expression over inputs like these."""
    tensors = [te.placeholder(array.shape, str(array.dtype), name=f"x{i}") for i, array in enumerate(inputs)]
    return te.create_prim_func([*tensors, compute(*tensors)], index_dtype_override="int64")


def space(function: tirx.PrimFunc, machine: Machine = AVX512) -> Space:
    return first_space(RULES, function, machine)


@cache
def pool() -> Path:
    """The runtime's thread pool as an object file, compiled once."""
    file = Path(tempfile.mkdtemp(prefix="stack-test-")) / "pool.o"
    subprocess.run(["cc", "-O2", "-fPIC", "-c", "-o", str(file), str(RUNTIME / "pool.c")], check=True)
    return file


def run(function: tirx.PrimFunc, machine: Machine, *arrays: np.ndarray, threads: int = 1) -> None:
    """Call the scheduled `function` with `arrays`; the last is written."""
    target = tvm.target.Target({"kind": "llvm", "mcpu": CODEGEN[machine]})
    with tempfile.TemporaryDirectory(prefix="stack-test-") as folder:
        built, library = Path(folder) / "kernel.o", Path(folder) / "kernel.so"
        kernels.build_together([function.with_attr("global_symbol", "kernel")], target, built)
        subprocess.run(["cc", "-shared", "-pthread", "-o", str(library), str(built), str(pool()), "-lm"], check=True)
        dll = ctypes.CDLL(str(library))
        dll.stack_pool_new.restype = ctypes.c_void_p
        workers = ctypes.c_void_p(dll.stack_pool_new(threads))
        dll.stack_pool_use(workers)
        code = dll.kernel(*(ctypes.c_void_p(array.ctypes.data) for array in arrays))
        dll.stack_pool_use(None)
        dll.stack_pool_free(workers)
        assert code == 0


def aligned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Zeros at an address that is a multiple of 64, as tensors in an arena are."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def result(
    function: tirx.PrimFunc,
    *inputs: np.ndarray,
    machine: Machine = AVX512,
    point: Point | None = None,
    rule: str | None = None,
    threads: int = 1,
) -> np.ndarray:
    """What `function`, scheduled by the first rule that takes it, computes from `inputs`."""
    if machine not in MACHINES:
        machine = AVX2
    chosen = space(function, machine)
    if rule is not None:
        assert chosen.rule == rule
    out = function.params[-1]
    arrays = [aligned(tuple(int(extent) for extent in out.shape), str(out.dtype))]
    for array in reversed(inputs):
        arrays.insert(0, aligned(array.shape, str(array.dtype)))
        arrays[0][...] = array
    run(chosen.apply({**chosen.default, **(point or {})}).mod["main"], machine, *arrays, threads=threads)
    return arrays[-1]


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def extents(schedule_text: str, kind: str) -> list[str]:
    """The lines of a printed schedule that open a loop of one kind: parallel, vectorized, unroll."""
    return [line.strip() for line in schedule_text.splitlines() if f"T.{kind}(" in line]


def check_nests(chosen: Space) -> None:
    """Whether the one loop nest of a space, described for three points at once, does all its steps."""
    assert chosen.nests
    (nest,) = chosen.nests({name: np.array([value] * 3) if type(value) is int else value for name, value in chosen.default.items()})
    assert np.allclose(np.prod([np.broadcast_to(loop.extent, 3) for loop in nest.loops], axis=0), nest.steps)
