"""The process that times x86 candidates: it loads one, compares its numbers, and calls it until its median is known.

    a Candidate in, a Timed out

What a cost means: the kernel's constants come from beyond the private caches, since a network reads others in between, its activations were
just written by the layer before; the core is this process's own, and warm. Imports no TVM: after a crash it is there again in 0.1 s.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stack.measure.candidate import Argument, Array, Candidate, storage, wrong
from stack.measure.serve import Refused, serve

MOST = 32  # arguments of a kernel; timing.c says the same
ALIGN = 64
TINY = 2 << 10  # bytes of constants that stay in the nearest cache whatever a network does in between... a few lines
HOPELESS = 1.5  # times the cheapest so far
FIRST = 3  # runs that tell a hopeless one
WARM = 1e-3  # seconds of calls before times count
BLOCK = 4e-3  # seconds of calls between two looks at the spread
ENOUGH = 0.005  # of the median, as the standard error of it
AT_LEAST, AT_MOST = 8, 0.15  # runs, and seconds, of one measurement


@dataclass(frozen=True)
class Environment:
    """What a measuring process works with: the library made of timing.c and pool.c, threads, and bytes of the private caches."""

    library: Path
    threads: int
    private: int


@dataclass(frozen=True)
class Timed:
    """Seconds of one call, in the median and between the quartiles; of few runs where it is not `settled`."""

    cost: float
    spread: float
    settled: bool


class Buffers:
    """Arrays at addresses as a network has them, kept alive as long as this is."""

    def __init__(self, arguments: Sequence[Argument], private: int) -> None:
        constant = sum(argument.bytes for argument in arguments if argument.role == "constant")
        self.sets = 1 if constant <= TINY else max(1, -(-2 * private // constant))
        roles = [argument.role for argument in arguments]
        once = [aligned(argument.shape, argument.dtype) if argument.role == "output" else copy(argument.read()) for argument in arguments]
        self.arrays = [
            [array if role != "constant" or index == 0 else copy(array) for array, role in zip(once, roles, strict=True)]
            for index in range(self.sets)
        ]
        self.outputs = [array for array, role in zip(once, roles, strict=True) if role == "output"]
        inputs = [array for array, role in zip(once, roles, strict=True) if role == "input"]
        flat = [array.ctypes.data for each in self.arrays for array in [*each, *[each[-1]] * (MOST - len(each))]]
        self.table = (ctypes.c_void_p * len(flat))(*flat)
        ranges = [number for array in inputs for number in (array.ctypes.data, array.nbytes)]
        self.touched, self.touches = (ctypes.c_void_p * max(1, len(ranges)))(*ranges), len(inputs)


def aligned(shape: Sequence[int], dtype: str) -> Array:
    """An array of bytes that stand for nothing, at an address as in an arena."""
    kind = storage(dtype)
    count = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    raw = np.full(count + ALIGN, 0xA5, np.uint8)
    start = -raw.ctypes.data % ALIGN
    return raw[start : start + count].view(kind).reshape(tuple(shape))


def copy(source: Array) -> Array:
    made = aligned(source.shape, str(source.dtype))
    made[...] = source
    return made


class Timer:
    """The library of timing.c, with the functions that kernels call."""

    def __init__(self, environment: Environment) -> None:
        self.private = environment.private
        self.runtime = ctypes.CDLL(str(environment.library))
        self.runtime.stack_pool_new.restype = ctypes.c_void_p
        if environment.threads > 1:
            self.runtime.stack_pool_use(ctypes.c_void_p(self.runtime.stack_pool_new(environment.threads)))
        self.kept: tuple[Sequence[Argument], Buffers] | None = None

    def load(self, library: Path) -> tuple[ctypes.CDLL, ctypes.c_void_p]:
        """The kernel in `library`, with the functions of the runtime that it calls put into the variables it has for them."""
        loaded = ctypes.CDLL(str(library))
        for name in ("ParallelLaunch", "ParallelBarrier", "AllocWorkspace", "FreeWorkspace"):
            variable = f"__TVMBackend{name}"
            try:
                wanted = ctypes.c_void_p.in_dll(loaded, variable)
            except ValueError:
                continue
            wanted.value = ctypes.c_void_p.in_dll(self.runtime, variable).value
        return loaded, ctypes.cast(loaded.candidate, ctypes.c_void_p)

    def call(self, kernel: ctypes.c_void_p, buffers: Buffers, first: int, runs: int) -> list[float]:
        seconds = (ctypes.c_double * runs)()
        code = self.runtime.stack_time(
            kernel, buffers.table, buffers.sets, first, runs, buffers.touched, buffers.touches, ctypes.byref(seconds)
        )
        if code:
            raise Refused("out of memory", f"the kernel got no scratch memory (code {code})")
        return list(seconds)

    def buffers(self, arguments: Sequence[Argument]) -> Buffers:
        """Arrays for `arguments`, which are often those of the last candidate."""
        if self.kept is None or self.kept[0] != arguments:
            self.kept = None
            self.kept = arguments, Buffers(arguments, self.private)
        for output in self.kept[1].outputs:
            output.reshape(-1).view(np.uint8)[...] = 0xA5
        return self.kept[1]

    def run(self, library: Path, arguments: Sequence[Argument]) -> list[Array]:
        """The outputs of one call."""
        loaded, kernel = self.load(library)
        buffers = self.buffers(arguments)
        self.call(kernel, buffers, 0, 1)
        unload(loaded)
        return buffers.outputs

    def time(self, request: tuple[Candidate, float]) -> Timed:
        """Compare, then time; Refused where the numbers are wrong."""
        candidate, best = request
        loaded, kernel = self.load(candidate.library)
        buffers = self.buffers(candidate.arguments)
        self.call(kernel, buffers, 0, 1)
        expected = [argument for argument in candidate.arguments if argument.role == "output"]
        for output, argument in zip(buffers.outputs, expected, strict=True):
            if difference := wrong(output, argument.read(), argument.dtype, candidate.precision, candidate.rounds):
                raise Refused("wrong result", difference)
        timed = settle(lambda first, runs: self.call(kernel, buffers, first, runs), best)
        unload(loaded)
        return timed


def unload(library: ctypes.CDLL) -> None:
    ctypes.CDLL(None).dlclose(ctypes.c_void_p(library._handle))


def settle(call: Any, best: float) -> Timed:
    """Call until the median is known, or is known not to matter. `call(first, runs)` gives seconds, below 0 where one says nothing."""
    done, seconds = FIRST, [each for each in call(0, FIRST) if each > 0]
    while not seconds:
        seconds = [each for each in call(done, FIRST) if each > 0]
        done += FIRST
    fastest = min(seconds)
    if fastest > HOPELESS * best:
        return summary(seconds, False)
    warm = int(WARM / fastest)
    if warm > 0:
        call(done, min(warm, 1000))
        done, seconds = done + warm, []
    spent = sum(seconds)
    while True:
        runs = max(1, min(200, int(BLOCK / fastest)))
        block = [each for each in call(done, runs) if each > 0]
        done, spent = done + runs, spent + runs * fastest
        seconds += block
        enough = len(seconds) >= AT_LEAST and error(seconds) <= ENOUGH
        if seconds and (enough or (spent >= AT_MOST and len(seconds) >= FIRST) or spent >= 10 * AT_MOST):
            return summary(seconds, True)


def error(seconds: Sequence[float]) -> float:
    """The standard error of the median, relative to it: of a normal distribution that is 1.253 sigma / sqrt(n), and its quartiles are
    1.349 sigma apart."""
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return float(1.253 * (high - low) / 1.349 / np.sqrt(len(seconds)) / middle)


def summary(seconds: Sequence[float], settled: bool) -> Timed:
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return Timed(float(middle), float(high - low), settled)


def start(environment: Environment) -> Any:
    return Timer(environment).time


def main() -> None:
    serve(start, "crashed")
