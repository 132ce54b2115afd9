"""Measure x86 candidates on this machine: some processes build ahead while another one times, each on cores of its own.

job, point -> [builder: apply, LLVM, ld] -> library and constants as files in memory -> [native: compare, time] -> Measurement
"""

import os
import subprocess
import tempfile
from concurrent.futures import Future
from functools import cache
from pathlib import Path

from schedules.space import Point
from schedules.tuning.measurement import Job, Measurement
from stack.emit.cc import find_cc
from stack.emit.native import RUNTIME
from stack.errors import StackError
from stack.measure.builder import Build, Setup
from stack.measure.counts import Counts
from stack.measure.ledger import Ledger, first_failed, hand_over
from stack.measure.native import Environment
from stack.measure.pool import Pool
from stack.measure.serve import Answer, Limits
from targets.target import Target
from targets.x86.detect import cpu_name

BUILD_SECONDS, RUN_SECONDS = 30.0, 10.0  # of CPU for one candidate
TOGETHER = 6  # candidates that a builder compiles at once
AHEAD = 8  # candidates per builder under way at once: what keeps them busy while the next ones are proposed
SPARE, MEASURING = 10, 19  # niceness of builders, on spare cores and on those that measure
HERE = Path(__file__).parent


class LocalRunner:
    """Builders, one a core or as many as `builders` says, and one measuring process that has `threads` cores.

    `rules` names others than the family's, as "module:attribute".
    """

    unit = "seconds"

    def __init__(
        self, target: Target, threads: int = 1, rules: str = "", run_seconds: float = RUN_SECONDS, memory: int = 0, builders: int = 0
    ) -> None:
        cores = sorted(os.sched_getaffinity(0))
        measuring = cores[-threads:]  # the system's own work tends to be on the first ones
        memory = memory or physical_memory() // 2
        self.device = cpu_name()
        self.parallel = AHEAD * len(cores) + 1
        self.ledger = Ledger(self.device)
        runtime, private = self.ledger.folder / "runtime.so", target.machine.l2_bytes
        limits = [Limits(BUILD_SECONDS, memory, (core,), MEASURING if core in measuring else SPARE) for core in cores[: builders or None]]
        self.builders = Pool("stack.measure.builder", Setup(target, Environment(runtime, 1, private), rules), limits, TOGETHER)
        try:
            build_runtime(runtime)  # while the builders import TVM
        except BaseException:
            self.builders.close()
            self.ledger.close()
            raise
        alone = [Limits(run_seconds, memory, tuple(measuring))]
        self.measurer = Pool("stack.measure.native", Environment(runtime, len(measuring), private), alone)

    def submit(self, job: Job, point: Point, best: float) -> Future[Measurement]:
        """Build, compare and time one point; it may be cancelled until that is measured."""
        result: Future[Measurement] = Future()
        folder, prepared = self.ledger.prepare(job, self.builders)
        self.ledger.cheapest(folder, best)
        made = f"candidate{next(self.ledger.numbers)}"
        built = self.builders.submit(Build(folder, dict(point), made))

        def measure(_: Future[Answer]) -> None:
            ended = first_failed(prepared, built)
            if ended or not result.set_running_or_notify_cancel():
                finish(ended or built)
            else:
                self.measurer.submit((built.result().value, self.ledger.cheapest(folder))).add_done_callback(finish)

        def finish(ended: Future[Answer]) -> None:
            for file in folder.glob(f"{made}.*"):
                file.unlink(missing_ok=True)
            hand_over(ended, self.ledger, folder, result)

        prepared.add_done_callback(lambda _: built.add_done_callback(measure))
        return result

    def counts(self) -> Counts:
        """What it has done so far."""
        builders, measurer, ledger = self.builders, self.measurer, self.ledger
        return Counts(ledger.seconds, builders.served, builders.seconds, measurer.served, measurer.seconds, ledger.failed())

    def close(self) -> None:
        """End all processes and remove all files; what is under way ends with an exception. Harmless when repeated."""
        self.builders.close()
        self.measurer.close()
        self.ledger.close()


def physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def build_runtime(library: Path) -> Path:
    """timing.c and the thread pool, as `library`."""
    library.write_bytes(compiled_runtime())
    return library


@cache
def compiled_runtime() -> bytes:
    """Its file, compiled once in a process."""
    sources = [HERE / "timing.c", RUNTIME / "pool.c"]
    with tempfile.NamedTemporaryFile(suffix=".so") as library:
        options = ["-std=gnu11", "-O2", "-fPIC", "-shared", "-pthread", f"-I{RUNTIME}"]
        command = [str(find_cc()), *options, *map(str, sources), "-o", library.name]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise StackError("the C compiler could not build what measures", at=command[0], hint=done.stderr.strip()[-2000:])
        return Path(library.name).read_bytes()
