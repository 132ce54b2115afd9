"""Measure on the workers of a Dask cluster that is there already. It has the queue, and gives what a lost worker had to another one.

dask scheduler
dask worker tcp://HOST:8786 --resources "x86=1"     # on each device: so many candidates are measured there at once
dask worker tcp://HOST:8786                         # on other machines: they build
"""

import math
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType
from typing import Any

from schedules.space import Point
from schedules.tuning.measurement import Failure, Job, Measurement
from stack.errors import StackError, ToolMissing
from stack.measure import remote
from stack.measure.counts import Counts
from stack.measure.pool import Closed
from stack.measure.remote import Outcome, Site
from targets.registry import family_of, find
from targets.target import Family

CONNECT_SECONDS, ANSWER_SECONDS = 10, 180
AHEAD = 3  # candidates per worker's thread under way at once


def distributed() -> ModuleType:
    try:
        import distributed
    except ModuleNotFoundError:
        raise ToolMissing("Dask is not installed", at="the Python package 'distributed'", hint="pip install distributed") from None
    return distributed


class DaskRunner:
    """`address` is the scheduler's, such as tcp://10.0.0.7:8786; the resource that names the devices is called as the target is."""

    def __init__(self, target: str, threads: int, address: str, rules: str = "") -> None:
        dask = distributed()
        self.lost: tuple[type[Exception], ...] = (dask.KilledWorker, dask.scheduler.KilledWorker)
        described = find(target)
        self.name = Path(target).stem
        family: Family = family_of(described)
        if family.container not in ("native", "c"):
            raise StackError(f"no Dask worker measures candidates for '{described.name}' yet")
        self.native = family.container == "native"
        self.client = connect(dask, address)
        try:
            workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
            devices = [worker for worker in workers if worker.get("resources", {}).get(self.name)]
            self.resources = {self.name: 1} if devices else {}
            if self.native and not devices:
                start = f'dask worker {address} --resources "{self.name}=1"'
                raise StackError(f"no worker of the cluster is a device for '{self.name}'", at=address, hint=f"start one there: {start}")
            if not workers:
                raise StackError("the cluster has no workers", at=address, hint=f"start some: dask worker {address}")
            asked = self.client.submit(remote.describe, target, resources=self.resources, pure=False)
            there = asked.result(timeout=ANSWER_SECONDS)
        except BaseException:
            self.client.close()
            raise
        self.unit = "seconds" if self.native else "instructions"
        self.device = f"{self.name} at {address}"
        lanes = [int(worker.get("nthreads", 1)) for worker in workers]
        self.parallel = AHEAD * sum(lanes)
        self.site = Site(uuid.uuid4().hex, there, threads, max(lanes), rules)
        self.changing = threading.Lock()
        self.jobs: dict[tuple[str, str, str], Any] = {}
        self.waiting: dict[Future[Measurement], Any] = {}
        self.failures: Counter[str] = Counter()
        self.builds = self.measures = 0
        self.build_seconds = self.measure_seconds = self.began = 0.0

    def submit(self, job: Job, point: Point, best: float) -> Future[Measurement]:
        """Build one point anywhere, and measure it at a device."""
        result: Future[Measurement] = Future()
        result.set_running_or_notify_cancel()
        key = (job.key, job.precision, job.target)
        with self.changing:
            self.began = self.began or time.monotonic()
            if key not in self.jobs:
                self.jobs[key] = self.client.submit(remote.itself, job, pure=False)
            there = self.jobs[key]
        if self.native:
            built = self.client.submit(remote.build, self.site, there, dict(point), pure=False)
            task = self.client.submit(remote.measure, self.site, there, built, best, resources=self.resources, priority=1, pure=False)
        else:
            task = self.client.submit(remote.count, self.site, there, dict(point), resources=self.resources, pure=False)
        with self.changing:
            self.waiting[result] = task
        task.add_done_callback(lambda done: self.finish(result, done))
        return result

    def finish(self, result: Future[Measurement], done: Any) -> None:
        with self.changing:
            if self.waiting.pop(result, None) is None:
                return
        measurement = self.read(done)
        with self.changing:
            if measurement.failure:
                self.failures[measurement.failure] += 1
        result.set_result(measurement)

    def read(self, done: Any) -> Measurement:
        """What a task that has ended says."""
        failure: Failure
        try:
            outcome: Outcome = done.result()
        except self.lost as error:
            failure, detail = "device lost", str(error).splitlines()[0]
        except Exception as error:  # whatever a task raised elsewhere arrives here: the run goes on
            lost = done.status in ("cancelled", "lost")
            failure, detail = "device lost" if lost else "crashed", f"{type(error).__name__}: {error}"
        else:
            with self.changing:
                self.builds += bool(outcome.build_seconds)
                self.measures += bool(outcome.seconds)
                self.build_seconds += outcome.build_seconds
                self.measure_seconds += outcome.seconds
            return outcome.measurement
        return Measurement(math.inf, math.inf, failure=failure, detail=detail, device=self.device)

    def counts(self) -> Counts:
        """What the cluster has done for this runner so far."""
        with self.changing:
            seconds = time.monotonic() - self.began if self.began else 0.0
            return Counts(seconds, self.builds, self.build_seconds, self.measures, self.measure_seconds, dict(self.failures))

    def close(self) -> None:
        """Cancel what is under way, end what works for this runner, and leave the cluster as it was. Harmless when repeated."""
        with self.changing:
            waiting, self.waiting = self.waiting, {}
        for result, task in waiting.items():
            task.cancel()
            result.set_exception(Closed())
        if self.client.status == "running":
            self.client.run(remote.close, self.site.token, on_error="ignore")
        self.client.close()


def connect(dask: ModuleType, address: str) -> Any:
    try:
        dask.comm.get_address_host_port(address)  # ValueError; of a client that is refused so, Python would print more at the end
        return dask.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise StackError(
            f"no Dask scheduler answers: {str(error).splitlines()[0]}",
            at=address,
            hint='`dask scheduler` starts one; then `dask worker ADDRESS --resources "x86=1"` on each device',
        ) from None
