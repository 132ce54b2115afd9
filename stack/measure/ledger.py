"""What a runner knows of its jobs: a folder for each, whether that is prepared, the cheapest cost so far, and how candidates ended."""

import itertools
import math
import os
import pickle
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

from schedules.tuning.measurement import Job, Measurement
from stack.measure.jobs import Prepare
from stack.measure.pool import Pool
from stack.measure.serve import Answer

IN_MEMORY, PREFIX = Path("/dev/shm"), "stack-measure-"
Prepared = tuple[Path, Future[Answer]]


class Ledger:
    """`device` is what its measurements say where they were made."""

    def __init__(self, device: str) -> None:
        self.device = device
        remove_left()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=place()))
        self.changing = threading.Lock()
        self.folders: dict[tuple[str, str, str], Path] = {}
        self.prepared: dict[Path, Future[Answer]] = {}
        self.best: dict[Path, float] = {}
        self.failures: Counter[str] = Counter()
        self.numbers = itertools.count()
        self.began = 0.0

    def place(self, job: Job) -> Path:
        """The folder of `job`, with the job in it."""
        key = (job.key, job.precision, job.target)
        with self.changing:
            self.began = self.began or time.monotonic()
            if key not in self.folders:
                self.folders[key] = self.folder / f"job{len(self.folders)}"
                self.folders[key].mkdir()
                with (self.folders[key] / "job").open("wb") as stream:
                    pickle.dump(job, stream)
            return self.folders[key]

    def prepare(self, job: Job, pool: Pool) -> Prepared:
        """The job's folder, and how `pool` ends writing what its candidates share there: asked once for each job, before its points."""
        folder = self.place(job)
        with self.changing:
            if folder not in self.prepared:
                self.prepared[folder] = pool.submit(Prepare(folder))
            return folder, self.prepared[folder]

    def cheapest(self, folder: Path, best: float = math.inf) -> float:
        """Of the job in `folder`, now that `best` is known."""
        with self.changing:
            self.best[folder] = min(best, self.best.get(folder, math.inf))
            return self.best[folder]

    def enter(self, folder: Path, answer: Answer) -> Measurement:
        """What an answer says of a candidate of the job in `folder`."""
        if answer.failure:
            with self.changing:
                self.failures[answer.failure] += 1
            return Measurement(math.inf, math.inf, failure=answer.failure, detail=answer.detail, device=self.device)  # type: ignore[arg-type]  # plain text
        self.cheapest(folder, answer.value.cost)
        return Measurement(answer.value.cost, answer.value.spread, answer.value.settled, device=self.device)

    def failed(self) -> Mapping[str, int]:
        with self.changing:
            return dict(self.failures)

    @property
    def seconds(self) -> float:
        """Since the first candidate."""
        return time.monotonic() - self.began if self.began else 0.0

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def place() -> Path:
    return IN_MEMORY if IN_MEMORY.is_dir() else Path(tempfile.gettempdir())


def remove_left() -> None:
    """Remove the folders of processes that were killed."""
    for folder in place().glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def first_failed(*futures: Future[Answer]) -> Future[Answer] | None:
    """The first of `futures`, all of them done, that has no value."""
    return next((each for each in futures if each.exception() or each.result().failure), None)


def hand_over(ended: Future[Answer], ledger: Ledger, folder: Path, result: Future[Measurement]) -> None:
    """Let `result` end as `ended` did, unless it was cancelled meanwhile."""
    if result.cancelled() or not (result.running() or result.set_running_or_notify_cancel()):
        return
    if gone := ended.exception():
        result.set_exception(gone)
    else:
        result.set_result(ledger.enter(folder, ended.result()))
