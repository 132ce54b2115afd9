"""A runner that measures nothing: the cost of a point is drawn from its program and itself, so that every run sees the same ones."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import Future

from schedules.space import Point
from schedules.tuning.measurement import Failure, Job, Measurement


def drawn_cost(key: str, point: Point) -> float:
    """Between 1 and 2 ms."""
    digest = hashlib.sha256(f"{key} {json.dumps(dict(point), sort_keys=True)}".encode()).digest()
    return 1e-3 * (1 + int.from_bytes(digest[:4]) / 2**32)


class FakeRunner:
    unit = "seconds"
    device = "fake"
    parallel = 3

    def __init__(
        self,
        cost: Callable[[Job, Point], float] = lambda job, point: drawn_cost(job.key, point),
        before: Callable[[int], None] = lambda count: None,
        fails: Failure | None = None,
    ) -> None:
        """`before` is called with how many were submitted; `fails` is the class of failure of every fifth point."""
        self.cost, self.before, self.fails = cost, before, fails
        self.seen: list[tuple[str, str]] = []
        self.closed = False

    def submit(self, job: Job, point: Point, best: float) -> Future[Measurement]:
        self.before(len(self.seen))
        self.seen.append((job.key, json.dumps(dict(point), sort_keys=True)))
        future: Future[Measurement] = Future()
        if self.fails and len(self.seen) % 5 == 0:
            future.set_result(Measurement(float("inf"), failure=self.fails, detail="as asked", device=self.device))
        else:
            future.set_result(Measurement(self.cost(job, point), device=self.device))
        return future

    def close(self) -> None:
        self.closed = True
