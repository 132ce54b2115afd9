"""Build integer layers for machines with and without dot-product instructions, run them, and compare every element."""

import ctypes
import itertools
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tvm
from tvm import tirx

from schedules.cpu import RULES
from schedules.machine import Machine
from schedules.rule import first_space
from schedules.space import Point, Space
from stack.emit.kernels import build_together
from targets.x86.detect import cpu_flags
from tests.schedules.cpu.dot_programs import Layer, Result, inputs, program, reference
from tests.schedules.cpu.programs import AVX2, AVX512, aligned, pool

VNNI = Machine(cores=2, vector_bytes=64, vector_registers=32, int8_dot=True)
EVERY = {"avx2": (AVX2, "haswell", "avx2"), "avx512": (AVX512, "skylake-avx512", "avx512bw"), "vnni": (VNNI, "cascadelake", "avx512_vnni")}
MACHINES = {name: machine for name, (machine, _, flag) in EVERY.items() if flag in cpu_flags()}


@dataclass(frozen=True)
class Case:
    layer: Layer
    result: Result
    space: Space
    point: Point


def points(space: Space, seed: int, count: int) -> list[Point]:
    """Legal ones, drawn at random."""
    everything = [dict(zip(space.knobs, values, strict=True)) for values in itertools.product(*space.knobs.values())]
    legal = [point for point in everything if space.legal(point)]
    return [legal[index] for index in np.random.default_rng(seed).choice(len(legal), count)]


def cases(layers: Sequence[Layer], results: Sequence[Result], rule: str, machine: str) -> Iterator[Case]:
    """Each layer, which `rule` must take, with two of the results: one at the default and one at another point."""
    for index, layer in enumerate(layers):
        for turn in range(2):
            result = results[(2 * index + turn) % len(results)]
            space = first_space(RULES, program(layer, result), MACHINES[machine])
            assert space.rule == rule
            yield Case(layer, result, space, points(space, index, 1)[0] if turn else space.default)


@contextmanager
def built(functions: Sequence[tirx.PrimFunc], machine: str) -> Iterator[ctypes.CDLL]:
    """All of them in one library, as kernel0, kernel1 and so on."""
    target = tvm.target.Target({"kind": "llvm", "mcpu": EVERY[machine][1]})
    with tempfile.TemporaryDirectory(prefix="stack-test-") as folder:

        def build(index: int) -> Path:
            file = Path(folder) / f"{index}.o"
            build_together([functions[index].with_attr("global_symbol", f"kernel{index}")], target, file)
            return file

        with ThreadPoolExecutor(2) as workers:
            objects = list(workers.map(build, range(len(functions))))
        file = Path(folder) / "all.so"
        subprocess.run(["cc", "-shared", "-pthread", "-o", str(file), *map(str, objects), str(pool()), "-lm"], check=True)
        yield ctypes.CDLL(str(file))


def check(cases: Sequence[Case], machine: str) -> None:
    """Whether each computes what it should, and stores nothing behind its result."""
    with built([case.space.apply(case.point).mod["main"] for case in cases], machine) as library:
        for index, case in enumerate(cases):
            given = inputs(case.layer, case.result, seed=index)
            arrays = [aligned(array.shape, str(array.dtype)) for array in given]
            for array, values in zip(arrays, given, strict=True):
                array[...] = values
            guarded = aligned((int(np.prod(case.layer.out)) + 64,), case.result.dtype)
            guarded[...] = 77
            arrays.append(guarded)
            assert library[f"kernel{index}"](*(ctypes.c_void_p(array.ctypes.data) for array in arrays)) == 0
            expected = reference(case.layer, case.result, given)
            made, behind = guarded[:-64].reshape(case.layer.out), guarded[-64:]
            about = str((case.layer, case.result, case.point))
            if case.result.dtype == "float32":
                np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5, err_msg=about)
            else:
                np.testing.assert_array_equal(made, expected, err_msg=about)
            assert (behind == 77).all(), f"stored behind the result: {about}"
