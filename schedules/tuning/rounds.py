"""The loop of tuning: pick a task, propose points of its space, measure them, learn from what came out.

    rounds = Rounds(states, runner, keep, strategy, Budget(trials=64))
    rounds.run()   ->   "the trials are used"

Every result is handed to `keep` before anything else happens with it, so that a killed run loses only what was under way. The first point
of each task is the space's default, which says how much of the model's time it takes; after that the strategy decides.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from typing import Protocol

from schedules.space import Point
from schedules.tuning.database import Record, text_of
from schedules.tuning.jobs import Work
from schedules.tuning.measurement import Measurement, Runner

TICK = 0.5  # seconds between looks at the clock
GRACE = 20.0  # seconds for what is under way when the budget ends
LOST = "device lost"  # the machine's fault and not the point's, which may be tried again


@dataclass
class State:
    """One task while it is tuned. `weight` is how often the model calls the program, or would where the graph went another way."""

    work: Work
    weight: float
    least: float | None = None  # the roofline, in the runner's unit
    best: Record | None = None
    default: float | None = None
    now: float | None = None
    trials: int = 0
    barren: int = 0  # trials since the best changed
    tried: dict[str, float | None] = field(default_factory=dict)  # by the point's text: its cost, None where it failed
    failures: Counter[str] = field(default_factory=Counter)
    closed: bool = False  # nothing is left to propose

    @property
    def key(self) -> str:
        return self.work.task.key

    @property
    def cost(self) -> float | None:
        return None if self.best is None else self.best.cost

    def learn(self, record: Record) -> None:
        """Take in a measurement, of this run or an older one."""
        text = text_of(record.point)
        if record.failure != LOST:
            self.tried[text] = record.cost if record.failure is None else None
        if record.failure:
            self.failures[record.failure] += 1
        if record.failure is None and record.cost is not None and text == text_of(self.work.task.space.default):
            self.default = record.cost
        if record.good and record.cost is not None and (self.cost is None or record.cost < self.cost):
            self.best, self.barren = record, 0
        else:
            self.barren += 1


class Strategy(Protocol):
    """What decides which points are worth their measurement."""

    def pick(self, states: Sequence[State], waiting: Mapping[str, int], left: int) -> State | None:
        """The task that gains most from the next few trials, None where no task gains enough any more."""

    def propose(self, state: State, count: int) -> Sequence[Point]:
        """Up to `count` points of its space that were never tried; fewer where there are no more."""

    def learn(self, state: State, records: Sequence[Record]) -> None:
        """What the points of one proposal came to."""


@dataclass(frozen=True)
class Budget:
    trials: int | None = None
    seconds: float | None = None


@dataclass
class Rounds:
    """`make` turns a measurement into a record, `keep` stores it, `on_change` is told after each, and every half second."""

    states: Sequence[State]
    runner: Runner
    make: Callable[[State, Point, Measurement], Record]
    keep: Callable[[Record], None]
    strategy: Strategy
    budget: Budget
    batch: int = 8
    on_change: Callable[["Rounds"], None] = lambda rounds: None
    trials: int = 0
    seconds: float = 0.0
    flying: dict[Future[Measurement], tuple[State, Point]] = field(default_factory=dict)
    queue: deque[tuple[State, Point]] = field(default_factory=deque)

    def run(self) -> str:
        """Until the budget is used or nothing is to be gained; says which. An interrupt is the caller's to catch."""
        began, before = time.monotonic(), self.seconds
        try:
            self.queue.extend(self.first_points())
            reason = ""
            while True:
                self.seconds = before + time.monotonic() - began
                reason = reason or self.spent()
                while not reason and len(self.flying) < max(self.runner.parallel, 1) and not (reason := self.spent()):
                    if not self.queue and not self.refill():
                        if not self.flying:
                            return "nothing more is to be gained"
                        break
                    self.submit(*self.queue.popleft())
                if reason and (not self.flying or self.grace_is_over()):
                    return reason
                done, _ = wait(self.flying, TICK, FIRST_COMPLETED)
                for future in done:
                    self.finish(future)
                self.on_change(self)
        finally:
            self.seconds = before + time.monotonic() - began
            for future in self.flying:
                future.cancel()

    def first_points(self) -> Iterator[tuple[State, Point]]:
        """The default of each task that was never measured, the one with most to compute first."""
        for state in sorted(self.states, key=lambda state: -state.weight * state.work.flops):
            if text_of(state.work.task.space.default) not in state.tried:
                yield state, state.work.task.space.default

    def spent(self) -> str:
        """Which part of the budget is used, the trials under way included; empty where none is."""
        if self.budget.trials is not None and self.trials + len(self.flying) >= self.budget.trials:
            return "all trials are used"
        if self.budget.seconds is not None and self.seconds >= self.budget.seconds:
            return "the time is used"
        return ""

    def grace_is_over(self) -> bool:
        return self.budget.seconds is not None and self.seconds > self.budget.seconds + GRACE

    def refill(self) -> bool:
        """Queue the next proposal; False where there is none.

        Nothing is proposed for a task before its default is known, except where that would leave the builders idle.
        """
        waiting = Counter(state.key for state, _ in self.flying.values())
        left = math.inf if self.budget.trials is None else self.budget.trials - self.trials - len(self.flying)
        while True:
            open_ = [state for state in self.states if not state.closed and state.tried]
            state = self.strategy.pick(open_, waiting, int(min(left, 1 << 30))) if open_ else self.heaviest_under_way()
            if state is None:
                return False
            under_way = {text_of(point) for other, point in self.flying.values() if other is state}
            points = [point for point in self.strategy.propose(state, self.batch) if text_of(point) not in under_way | state.tried.keys()]
            if points:
                self.queue.extend((state, point) for point in points)
                return True
            if under_way:
                return False  # what is under way may be all that was left
            state.closed = True

    def heaviest_under_way(self) -> State | None:
        """The task whose default was asked for first."""
        return next((state for state, _ in self.flying.values() if not state.closed), None)

    def submit(self, state: State, point: Point) -> None:
        self.flying[self.runner.submit(state.work.job, point, math.inf if state.cost is None else state.cost)] = state, point

    def finish(self, future: Future[Measurement]) -> None:
        state, point = self.flying.pop(future)
        try:
            measurement = future.result()
        except CancelledError:
            return
        record = self.make(state, point, measurement)
        self.keep(record)
        self.trials += 1
        state.trials += 1
        state.now = record.cost
        state.learn(record)
        self.strategy.learn(state, [record])
