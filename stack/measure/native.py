"""The process that times x86 candidates: it loads one, compares its numbers, and calls it until its median is known.

    a Candidate in, a Timed out

What a cost means: the kernel's constants come from beyond the private caches, since a network reads others in between, its activations were
just written by the layer before; the core is this process's own, and warm. Imports no TVM: after a crash it is there again in 0.1 s.
"""

import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from stack.measure.candidate import Argument, Array, Candidate, storage, wrong
from stack.measure.serve import Handler, Refused, one_by_one, serve

RUNTIME = [f"__TVMBackend{name}" for name in ("ParallelLaunch", "ParallelBarrier", "AllocWorkspace", "FreeWorkspace")]
MOST = 32  # arguments of a kernel; timing.c says the same
ALIGN = 64
TINY = 1 << 10  # bytes of constants: a few lines, which cost nothing wherever they come from
HOPELESS = 1.5  # times the cheapest so far
FIRST = 3  # runs that tell a hopeless one
FEWEST = {True: 5, False: FIRST}  # calls, however long each takes; where it is near, and elsewhere
WARM = 1e-3  # seconds of calls before times count
BLOCK = 2e-3  # seconds of calls between two looks at the spread
NEAR = 1.1  # times the cheapest so far: where it matters which of the two is cheaper, more calls tell
ENOUGH = {True: 0.0075, False: 0.02}  # of the median, as the standard error of it; where it is near, and elsewhere
AT_LEAST = 8  # calls
AT_MOST = {True: 0.02, False: 0.01}  # seconds of calls
BY_THE_CLOCK = 0.5  # seconds: others may have the core most of the time


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
    """Arrays at addresses as a network has them, for one candidate after the other: what the next one shares with the last one stays."""

    def __init__(self, private: int) -> None:
        self.private = private
        self.arrays: dict[Argument, list[Array]] = {}

    def place(self, arguments: Sequence[Argument]) -> None:
        """Arrays for `arguments`: constants as often as it takes for them to be out of the private caches when their turn comes again."""
        constant = sum(argument.bytes for argument in arguments if argument.role == "constant")
        self.sets = 1 if constant <= TINY else max(1, -(-2 * self.private // constant))
        kept = self.arrays
        self.arrays = {argument: kept[argument] if argument in kept else self.make(argument) for argument in arguments}
        columns = [np.resize([array.ctypes.data for array in self.arrays[each]], self.sets) for each in arguments]
        rows = np.stack([*columns, *[columns[-1]] * (MOST - len(columns))], axis=1).astype(np.uint64)
        self.table = (ctypes.c_void_p * rows.size).from_buffer_copy(rows.tobytes())
        inputs = [self.arrays[each][0] for each in arguments if each.role == "input"]
        ranges = [number for array in inputs for number in (array.ctypes.data, array.nbytes)]
        self.touched, self.touches = (ctypes.c_void_p * max(1, len(ranges)))(*ranges), len(inputs)
        self.outputs = [self.arrays[each][0] for each in arguments if each.role == "output"]
        for output in self.outputs:
            output.reshape(-1).view(np.uint8)[...] = 0xA5  # bytes that stand for nothing

    def make(self, argument: Argument) -> list[Array]:
        if argument.role == "output":
            return [aligned(argument.shape, argument.dtype)]
        source = argument.read()
        return [copy(source) for _ in range(self.sets if argument.role == "constant" else 1)]


def aligned(shape: Sequence[int], dtype: str) -> Array:
    """An array at an address as in an arena."""
    kind = storage(dtype)
    count = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    raw = np.empty(count + ALIGN, np.uint8)
    start = -raw.ctypes.data % ALIGN
    return raw[start : start + count].view(kind).reshape(tuple(shape))


def copy(source: Array) -> Array:
    made = aligned(source.shape, str(source.dtype))
    made[...] = source
    return made


class Timer:
    """The library of timing.c, with the functions that kernels call."""

    def __init__(self, environment: Environment) -> None:
        self.buffers = Buffers(environment.private)
        self.runtime = ctypes.CDLL(str(environment.library))
        self.runtime.stack_pool_new.restype = ctypes.c_void_p
        if environment.threads > 1:
            self.runtime.stack_pool_use(ctypes.c_void_p(self.runtime.stack_pool_new(environment.threads)))

    @contextmanager
    def loaded(self, library: Path, kernel: str) -> Iterator[ctypes.c_void_p]:
        """The function `kernel` of `library`, with the functions of the runtime that it calls put into the variables it has for them."""
        loaded = ctypes.CDLL(str(library))
        try:
            for variable in RUNTIME:
                with suppress(ValueError):  # of a kernel that does not call it
                    function = ctypes.c_void_p.in_dll(self.runtime, variable).value
                    ctypes.c_void_p.in_dll(loaded, variable).value = function
            yield ctypes.cast(getattr(loaded, kernel), ctypes.c_void_p)
        finally:
            ctypes.CDLL(None).dlclose(ctypes.c_void_p(loaded._handle))

    def call(self, kernel: ctypes.c_void_p, first: int, runs: int) -> list[float]:
        seconds, places = (ctypes.c_double * runs)(), self.buffers
        code = self.runtime.stack_time(kernel, places.table, places.sets, first, runs, places.touched, places.touches, seconds)
        if code:
            raise Refused("out of memory", f"the kernel got no scratch memory (code {code})")
        return list(seconds)

    def run(self, library: Path, kernel: str, arguments: Sequence[Argument]) -> list[Array]:
        """The outputs of one call."""
        with self.loaded(library, kernel) as function:
            self.buffers.place(arguments)
            self.call(function, 0, 1)
        return self.buffers.outputs

    def time(self, request: tuple[Candidate, float]) -> Timed:
        """Compare, then time; Refused where the numbers are wrong."""
        candidate, best = request
        expected = [argument for argument in candidate.arguments if argument.role == "output"]
        with self.loaded(candidate.library, candidate.kernel) as kernel:
            for output, argument in zip(self.run(candidate.library, candidate.kernel, candidate.arguments), expected, strict=True):
                if difference := wrong(output, argument.read(), argument.dtype, candidate.precision, candidate.rounds):
                    self.buffers.arrays = {}  # whatever it wrote elsewhere
                    raise Refused("wrong result", difference)
            return settle(lambda first, runs: self.call(kernel, first, runs), best)


def settle(call: Callable[[int, int], list[float]], best: float) -> Timed:
    """Call until the median is known, or is known not to matter. `call(first, runs)` gives seconds, below 0 where one says nothing."""
    began, done = time.monotonic(), FIRST
    seconds = [each for each in call(0, FIRST) if each > 0]
    while not seconds:
        seconds = [each for each in call(done, FIRST) if each > 0]
        done += FIRST
    fastest = min(seconds)
    if fastest > HOPELESS * best:
        return summary(seconds, False)
    warm = min(1000, int(WARM / fastest))
    if warm > FIRST:
        call(done, warm)
        done, seconds = done + warm, []
    spent = sum(seconds)
    while True:
        runs = max(1, min(200, int(BLOCK / fastest)))
        seconds += [each for each in call(done, runs) if each > 0]
        done, spent = done + runs, spent + runs * fastest
        if time.monotonic() - began >= BY_THE_CLOCK:
            return summary(seconds or [fastest], True)
        if len(seconds) < FIRST:
            continue
        near = bool(np.median(seconds) < NEAR * best)
        known = len(seconds) >= AT_LEAST and error(seconds) <= ENOUGH[near]
        if known or (spent >= AT_MOST[near] and len(seconds) >= FEWEST[near]):
            return summary(seconds, True)


def error(seconds: Sequence[float]) -> float:
    """The standard error of the median, relative to it: of a normal distribution that is 1.253 sigma / sqrt(n), and its quartiles are
    1.349 sigma apart."""
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return float(1.253 * (high - low) / 1.349 / np.sqrt(len(seconds)) / middle)


def summary(seconds: Sequence[float], settled: bool) -> Timed:
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return Timed(float(middle), float(high - low), settled)


def start(environment: Environment) -> Handler:
    return one_by_one(Timer(environment).time, "crashed")


def main(connection: Connection) -> None:
    serve(connection, start)
