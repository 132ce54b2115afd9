"""What runs on the workers of a Dask cluster: each has builders and a measuring process of its own, as this machine has without one.

build(site, job, point) -> Parcel, anywhere     measure(site, job, parcel, best) -> Outcome, where the device is
"""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

from schedules.space import Point
from schedules.tuning.measurement import Job, Measurement
from stack.measure.builder import Build
from stack.measure.candidate import Argument, Candidate
from stack.measure.cortex_m import CortexMRunner
from stack.measure.ledger import first_failed, hand_over
from stack.measure.local import LocalRunner
from stack.measure.serve import Answer
from targets.registry import family_of, find
from targets.target import Target


@dataclass(frozen=True)
class Site:
    """For which runner of which tuner (`token`) a worker works, and with what."""

    token: str
    target: Target
    threads: int
    builders: int
    rules: str = ""


@dataclass(frozen=True)
class Parcel:
    """A built candidate on its way to the device: `files` by name, those of its `arguments` that are its own among them; or why not."""

    failed: Answer
    seconds: float
    library: str = ""
    kernel: str = ""
    arguments: Sequence[Argument] = ()
    precision: str = ""
    rounds: bool = False
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Outcome:
    """A measurement and the seconds that building and measuring it took."""

    measurement: Measurement
    build_seconds: float
    seconds: float


RUNNERS: dict[str, LocalRunner | CortexMRunner] = {}
OPENING = threading.Lock()


def describe(target: str) -> Target:
    """The target called so, as it is on this worker."""
    return find(target)


def itself(job: Job) -> Job:
    """A job as the result of a task, which a cluster makes again where the worker that had it is gone; scattered data would be lost."""
    return job


def runner(site: Site) -> LocalRunner | CortexMRunner:
    """This worker's own, opened when it is first needed."""
    with OPENING:
        if site.token not in RUNNERS:
            native = family_of(site.target).container == "native"
            RUNNERS[site.token] = (
                LocalRunner(site.target, site.threads, site.rules, builders=site.builders) if native else CortexMRunner(site.target)
            )
        return RUNNERS[site.token]


def close(token: str) -> None:
    """End what works for the tuner that is called so."""
    with OPENING:
        opened = RUNNERS.pop(token, None)
    if opened:
        opened.close()


def build(site: Site, job: Job, point: Point) -> Parcel:
    began = time.monotonic()
    here = runner(site)
    assert isinstance(here, LocalRunner)
    folder, made = here.ledger.place(job), f"candidate{next(here.ledger.numbers)}"
    built = here.builders.submit(Build(folder, dict(point), made)).result()
    if built.failure:
        return Parcel(built, time.monotonic() - began)
    candidate: Candidate = built.value
    own = list(folder.glob(f"{made}.*"))
    files = {file.name: file.read_bytes() for file in own}
    for file in own:
        file.unlink()
    relative = [replace(argument, file=Path(argument.file.name)) for argument in candidate.arguments]
    return Parcel(
        Answer(), time.monotonic() - began, candidate.library.name, candidate.kernel, relative, candidate.precision, candidate.rounds, files
    )


def measure(site: Site, job: Job, parcel: Parcel, best: float) -> Outcome:
    began = time.monotonic()
    here = runner(site)
    assert isinstance(here, LocalRunner)
    folder, prepared = here.ledger.prepare(job, here.builders)
    result: Future[Measurement] = Future()
    if parcel.failed.failure:
        return Outcome(here.ledger.enter(folder, parcel.failed), parcel.seconds, 0.0)
    prepared.exception()  # once it is there
    ended = first_failed(prepared)
    own = folder / f"arrived{next(here.ledger.numbers)}"
    if not ended:
        own.mkdir()
        for name, content in parcel.files.items():
            (own / name).write_bytes(content)
        arguments = [replace(each, file=(own if each.file.name in parcel.files else folder) / each.file) for each in parcel.arguments]
        candidate = Candidate(own / parcel.library, parcel.kernel, arguments, parcel.precision, parcel.rounds)
        ended = here.measurer.submit((candidate, here.ledger.cheapest(folder, best)))
        ended.exception()
        for name in parcel.files:
            (own / name).unlink()
        own.rmdir()
    hand_over(ended, here.ledger, folder, result)
    return Outcome(result.result(), parcel.seconds, time.monotonic() - began)


def count(site: Site, job: Job, point: Point) -> Outcome:
    """Build and count one point of a microcontroller's."""
    began = time.monotonic()
    measurement = runner(site).submit(job, point, math.inf).result()
    return Outcome(measurement, 0.0, time.monotonic() - began)
