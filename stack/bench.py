"""Time a model beside its peers, all in one run.

Every engine gets the same inputs and as many threads, on the same cores. Engines take turns: a pause, one run to get warm again, then a
short burst of timed ones, so that whatever the machine does meanwhile falls on all of them. Times are of a call from Python.

The pause is for the engine before: ONNX Runtime's workers keep their cores busy for some 35 ms after a call, waiting for the next.
"""

import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np

from stack.errors import StackError
from stack.library import Library
from stack.peers import PEERS, Run
from targets.runner import Array
from targets.x86.detect import cpu_name

OURS = "stack"
SECONDS = 2.0  # that each engine is timed for, about
PAUSE = 0.1  # seconds, until no engine's workers spin any more


@dataclass(frozen=True)
class Result:
    """What one engine did. Differences are from the first peer: the largest, and that over the largest magnitude the peer gave."""

    engine: str
    times_ms: Sequence[float] = field(repr=False)
    max_abs_error: float | None
    max_rel_error: float | None

    @property
    def median_ms(self) -> float:
        return median(self.times_ms)

    @property
    def min_ms(self) -> float:
        return min(self.times_ms)

    @property
    def spread_ms(self) -> float:
        """The distance between the quartiles."""
        low, _, high = quantiles(self.times_ms, n=4)
        return high - low


@dataclass(frozen=True)
class Comparison:
    """All engines on one model: ours first, then the peers in the order they were named."""

    model: str
    target: str
    threads: int
    machine: str
    results: Sequence[Result]

    @property
    def ratio(self) -> dict[str, float]:
        """Our median over each peer's; below one where we are quicker."""
        ours, *peers = self.results
        return {peer.engine: ours.median_ms / peer.median_ms for peer in peers}

    def json(self) -> dict[str, Any]:
        keys = ("engine", "median_ms", "min_ms", "max_abs_error")
        return {
            "model": self.model,
            "target": self.target,
            "threads": self.threads,
            "machine": self.machine,
            "results": [{key: getattr(result, key) for key in keys} for result in self.results],
            "ratio": self.ratio,
        }


def compare(
    model: Path, library: Library, inputs: Mapping[str, Array], shapes: Mapping[str, Sequence[int]], against: Sequence[str]
) -> Comparison:
    """Time `library`, compiled from `model`, and the peers named in `against`, on as many threads as the library has."""
    with confined(library.threads):
        fresh = Library(library.folder, library.manifest, library.threads)  # its threads start inside the confinement
        runs: dict[str, Run] = {OURS: lambda arrays: list(fresh.run(arrays).values())}
        for peer in dict.fromkeys(against):
            runs[peer] = PEERS[peer](model, shapes, library.threads)
        answers = {engine: [np.array(output) for output in run(inputs)] for engine, run in runs.items()}
        times = interleave(runs, inputs)
    reference = answers[against[0]] if against else None
    results = [Result(engine, times[engine], *difference(answers[engine], reference)) for engine in runs]
    return Comparison(str(model), library.manifest["target"]["name"], library.threads, machine(), results)


def interleave(runs: Mapping[str, Run], inputs: Mapping[str, Array]) -> dict[str, list[float]]:
    """Milliseconds of many calls of each engine, taking turns."""
    once = {engine: timed(run, inputs, 3)[-1] / 1e3 for engine, run in runs.items()}
    bursts = {engine: min(20, max(1, round(0.02 / seconds))) for engine, seconds in once.items()}
    rounds = min(25, max(8, round(SECONDS * len(runs) / sum((bursts[engine] + 1) * once[engine] for engine in runs))))
    times: dict[str, list[float]] = {engine: [] for engine in runs}
    for _ in range(rounds):
        for engine, run in runs.items():
            time.sleep(PAUSE)
            times[engine] += timed(run, inputs, bursts[engine] + 1)[1:]
    return times


def timed(run: Run, inputs: Mapping[str, Array], count: int) -> list[float]:
    """Milliseconds of each of `count` calls."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        run(inputs)
        times.append(1e3 * (time.perf_counter() - started))
    return times


def difference(outputs: Sequence[Array], reference: Sequence[Array] | None) -> tuple[float | None, float | None]:
    """The largest difference over all outputs: absolute, and relative to the largest magnitude in the same output of the reference."""
    if reference is None:
        return None, None
    absolute = relative = 0.0
    for output, peer in zip(outputs, reference, strict=True):
        if output.shape != peer.shape:
            raise StackError(f"an output has shape {output.shape}, and the peer gives {peer.shape}", hint="fix the shapes with --shape")
        ours, theirs = output.astype(np.float64), peer.astype(np.float64)
        if not np.array_equal(np.isfinite(ours), np.isfinite(theirs)):
            return None, None  # one of them is no number: there is no difference to tell
        finite = np.isfinite(theirs)
        worst = float(np.max(np.abs(ours[finite] - theirs[finite]), initial=0.0))
        absolute = max(absolute, worst)
        relative = max(relative, worst / max(float(np.max(np.abs(theirs[finite]), initial=0.0)), np.finfo(np.float64).tiny))
    return absolute, relative


def machine() -> str:
    return f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}"


@contextmanager
def confined(threads: int) -> Iterator[None]:
    """Keep this process to `threads` cores, one hardware thread of each as far as they reach, so that every engine has the same ones."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, choose_cores(sorted(before), threads))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def choose_cores(usable: Sequence[int], count: int) -> set[int]:
    first: list[int] = []
    second: list[int] = []
    seen: set[str] = set()
    for cpu in usable:
        file = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        core = file.read_text() if file.exists() else str(cpu)
        (second if core in seen else first).append(cpu)
        seen.add(core)
    return set((first + second)[:count])
