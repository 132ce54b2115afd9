"""Measure x86 candidates on this machine: some processes build ahead while another one times, each on cores of its own.

job, point -> [builder: apply, LLVM, ld] -> library and constants as files in memory -> [native: compare, time] -> Measurement
"""

import itertools
import math
import os
import pickle
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

from schedules.space import Point
from schedules.tuning.measurement import Job, Measurement
from stack.emit.cc import find_cc
from stack.emit.native import RUNTIME
from stack.errors import StackError
from stack.measure.builder import Build, Prepare, Setup
from stack.measure.counts import Counts
from stack.measure.native import Environment
from stack.measure.pool import Pool
from stack.measure.serve import Answer, Limits
from targets.target import Target
from targets.x86.detect import cpu_name

BUILD_SECONDS, RUN_SECONDS = 30.0, 10.0  # of CPU for one candidate
AHEAD = 2  # candidates per builder under way at once
SPARE, MEASURING = 10, 19  # niceness of builders, on spare cores and on those that measure
IN_MEMORY = Path("/dev/shm")


HERE = Path(__file__).parent


class LocalRunner:
    """Builders and one measuring process, which has `threads` cores. `rules` names others than the family's, as "module:attribute"."""

    unit = "seconds"

    def __init__(
        self,
        target: Target,
        threads: int = 1,
        rules: str = "",
        build_seconds: float = BUILD_SECONDS,
        run_seconds: float = RUN_SECONDS,
        memory: int = 0,
    ) -> None:
        cores = sorted(os.sched_getaffinity(0))
        measuring = cores[-threads:]  # the system's own work tends to be on the first ones
        memory = memory or physical_memory() // 2
        self.device = cpu_name()
        self.parallel = AHEAD * len(cores) + 1
        self.folder = Path(tempfile.mkdtemp(prefix="stack-measure-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
        try:
            environment = Environment(build_runtime(self.folder), len(measuring), private_caches(target))
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        limits = [Limits(build_seconds, memory, (core,), MEASURING if core in measuring else SPARE) for core in cores]
        single = Environment(environment.library, 1, environment.private)
        self.builders = Pool("stack.measure.builder", Setup(target, single, rules), limits)
        self.measurer = Pool("stack.measure.native", environment, [Limits(run_seconds, memory, tuple(measuring))])
        self.changing = threading.Lock()
        self.prepared: dict[tuple[str, str, str], tuple[Path, Future[Answer]]] = {}
        self.best: dict[Path, float] = {}
        self.failures: Counter[str] = Counter()
        self.numbers = itertools.count()
        self.began = 0.0

    def submit(self, job: Job, point: Point, best: float) -> Future[Measurement]:
        """Build, compare and time one point; it may be cancelled until that is measured."""
        result: Future[Measurement] = Future()
        folder, prepared = self.prepare(job)
        with self.changing:
            self.began = self.began or time.monotonic()
            self.best[folder] = min(best, self.best.get(folder, math.inf))
            made = f"candidate{next(self.numbers)}"
        built = self.builders.submit(Build(folder, dict(point), made))

        def measure(_: Future[Answer]) -> None:
            ended = next((each for each in (prepared, built) if each.exception() or each.result().failure), None)
            if ended or not result.set_running_or_notify_cancel():
                finish(ended or built)
            else:
                self.measurer.submit((built.result().value, self.best[folder])).add_done_callback(finish)

        def finish(ended: Future[Answer]) -> None:
            for file in folder.glob(f"{made}.*"):
                file.unlink(missing_ok=True)
            if result.cancelled():
                return
            if isinstance(gone := ended.exception(), BaseException):
                result.set_exception(gone)
                return
            measurement = self.measurement(ended.result())
            with self.changing:
                if measurement.failure:
                    self.failures[measurement.failure] += 1
                self.best[folder] = min(measurement.cost, self.best[folder])
            result.set_result(measurement)

        prepared.add_done_callback(lambda _: built.add_done_callback(measure))
        return result

    def prepare(self, job: Job) -> tuple[Path, Future[Answer]]:
        """The job's folder, and how writing its inputs and right outputs there ends: once for each job, before its points."""
        key = (job.key, job.precision, job.target)
        with self.changing:
            if key not in self.prepared:
                folder = self.folder / f"job{len(self.prepared)}"
                folder.mkdir()
                with (folder / "job").open("wb") as stream:
                    pickle.dump(job, stream)
                self.prepared[key] = folder, self.builders.submit(Prepare(folder))
            return self.prepared[key]

    def measurement(self, answer: Answer) -> Measurement:
        if answer.failure:
            return Measurement(math.inf, math.inf, failure=answer.failure, detail=answer.detail, device=self.device)  # type: ignore[arg-type]
        timed = answer.value
        return Measurement(timed.cost, timed.spread, timed.settled, device=self.device)

    def counts(self) -> Counts:
        """What it has done so far."""
        seconds = time.monotonic() - self.began if self.began else 0.0
        with self.changing:
            failures = dict(self.failures)
        builders, measurer = self.builders, self.measurer
        return Counts(seconds, builders.served, builders.seconds, measurer.served, measurer.seconds, failures)

    def close(self) -> None:
        """End all processes and remove all files; what is under way ends with an exception. Harmless when repeated."""
        self.builders.close()
        self.measurer.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def private_caches(target: Target) -> int:
    """Bytes of what each core has for itself."""
    return target.machine.l2_bytes


def build_runtime(folder: Path) -> Path:
    """timing.c and the thread pool as a library."""
    library = folder / "runtime.so"
    sources = [HERE / "timing.c", RUNTIME / "pool.c"]
    command = [str(find_cc()), "-std=gnu11", "-O2", "-fPIC", "-shared", "-pthread", f"-I{RUNTIME}", *map(str, sources), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise StackError("the C compiler could not build what measures", at=command[0], hint=done.stderr.strip()[-2000:])
    return library
