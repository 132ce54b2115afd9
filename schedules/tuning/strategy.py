"""Which task and which points to try next: the allocator, a search for each task, and the cost model that guides them.

    strategy = Learned(machine, CostModel.load(folder), seed=0)
    state = strategy.pick(states, waiting, left)
    points = strategy.propose(state, 8)
    strategy.learn(state, [record, ...])          # in the order in which they come; the model is taught every so many

`log` says after each batch how well its ranking was foretold, and after each lesson how well a model that never saw any of this run's
measurements does on all of them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import numpy as np

from schedules.machine import Machine
from schedules.space import Point, Value
from schedules.tuning import allocate
from schedules.tuning.cost_model import CostModel, Ranking
from schedules.tuning.database import Record, text_of
from schedules.tuning.features import featurize
from schedules.tuning.rounds import LOST, State
from schedules.tuning.search import Search
from schedules.tuning.validation import Floats, Measured, mean, quality

LESSON = 32  # measurements between two updates of the model
REST = 32  # points behind a batch, of which the best is what the model foretells
FEW = 4  # measurements of a program, below which nothing is said about its ranking


@dataclass
class Course:
    """One task's search, what the model foretold of the batch under way, and how the task has done so far."""

    search: Search
    progress: allocate.Progress
    foretold: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    under_way: int = 0
    taught: int = 0  # measurements of it that the model had learnt when the batch was proposed


class Learned:
    """A `schedules.tuning.rounds.Strategy`. Only the model and the searches change."""

    def __init__(self, machine: Machine, model: CostModel, seed: int) -> None:
        self.machine, self.model, self.seed = machine, model, seed
        self.cold = replace_members(model)
        self.courses: dict[str, Course] = {}
        self.states: dict[str, State] = {}
        self.taught: dict[str, int] = {}
        self.since = 0
        self.log: list[dict[str, Any]] = []
        self.predicted: list[list[Any]] = []

    def pick(self, states: Sequence[State], waiting: Mapping[str, int], left: int) -> State | None:
        """The task whose next batch is expected to save most; one with a batch under way counts as if that had saved nothing."""
        progress = []
        for state in states:
            course = self.course(state)
            now = replace(course.progress, weight=state.weight, roofline=0.0, exhausted=course.progress.exhausted or state.closed)
            progress.append(replace(now, stale=now.stale + 1, batches=now.batches + 1) if course.under_way else now)
        chosen = allocate.next_task(progress)
        return None if chosen is None else states[chosen]

    def course(self, state: State) -> Course:
        """Its search, which knows all that was measured before and begins with what was good for programs like it."""
        self.states[state.key] = state
        if state.key not in self.courses:
            space = state.work.task.space
            search = Search(space, self.seed_of(state), self.good_elsewhere(state))
            for text, cost in state.tried.items():
                search.record(json.loads(text), inf if cost is None else cost)
            best = inf if state.cost is None else state.cost
            done = allocate.Progress(state.weight, best, batches=0 if best < inf else 1, exhausted=space.size == 1 or search.left == 0)
            self.courses[state.key] = Course(search, done)
        return self.courses[state.key]

    def seed_of(self, state: State) -> int:
        """Another one for each task, and once more has been measured: a run that goes on draws nothing twice."""
        text = f"{self.seed} {state.key} {len(state.tried)}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])

    def good_elsewhere(self, state: State) -> list[Point]:
        """The best points of other tasks of the same rule, the heaviest first."""
        alike = [s for s in self.states.values() if s.best and s.key != state.key and s.work.task.space.rule == state.work.task.space.rule]
        alike = sorted((s for s in alike if s.cost != s.default), key=lambda s: -s.weight * (s.cost or 0))
        return [s.best.point for s in alike[:2] if s.best]

    def propose(self, state: State, count: int) -> list[Point]:
        course, space = self.course(state), state.work.task.space
        if self.since >= LESSON:
            self.teach()
        ranked: dict[str, tuple[float, Point]] = {}
        said: dict[tuple[Value, ...], Floats] = {}  # by the members of the model
        foretold: dict[tuple[Value, ...], float] = {}
        best = [state.best.point] if state.best else []

        def ask(points: Sequence[Point]) -> Floats:
            keys = [tuple(point.values()) for point in points]
            if new := [at for at, key in enumerate(keys) if key not in said]:
                scores = self.model.scores(space, self.machine, [points[at] for at in new])
                said.update(zip((keys[at] for at in new), scores.T, strict=True))
            return np.stack([said[key] for key in keys], axis=1)

        def rank(points: Sequence[Point]) -> Ranking:
            ranking = Ranking.of(ask([*points, *best])[:, : len(points)])
            foretold.update(zip((tuple(point.values()) for point in points), ranking.scores.tolist(), strict=True))
            order = np.argsort(-ranking.scores, kind="stable")[: count + REST]
            ranked.update((text_of(points[at]), (float(ranking.scores[at]), points[at])) for at in order)
            return ranking

        points: list[Point] = list(course.search.propose(count, rank))
        if not points:
            course.progress = replace(course.progress, exhausted=True)
            return points
        if any(tuple(point.values()) not in foretold for point in points):  # such as come before all that are ranked
            rank(points)
        course.scores.update((text_of(point), foretold[tuple(point.values())]) for point in points)
        rest = sorted((entry for text, entry in ranked.items() if text not in course.scores), key=lambda entry: -entry[0])[:REST]
        course.foretold = self.expected(state, ask([*best, *(point for _, point in rest)])) if best and rest else None
        course.under_way += len(points)
        course.taught = self.taught.get(state.key, 0)
        return points

    def expected(self, state: State, scores: Floats) -> float | None:
        """The lowest cost the model expects among points, held against what it would have said of the best that was measured, the first."""
        costs = self.model.costs(scores)
        return float(costs[1:].min() / costs[0]) * (state.cost or 0.0) if np.isfinite(costs).all() else None

    def learn(self, state: State, records: Sequence[Record]) -> None:
        course = self.course(state)
        for record in records:
            text = text_of(record.point)
            cost = record.cost if record.failure is None and record.cost is not None else inf
            course.search.record(record.point, cost)
            self.since += 1
            if text in course.scores:
                course.under_way -= 1
                if record.failure != LOST:
                    course.costs[text] = cost
                    self.predicted.append([state.key, round(course.scores[text], 4), None if cost == inf else cost])
        if not course.under_way:
            self.end_batch(state, course)

    def end_batch(self, state: State, course: Course) -> None:
        best = inf if state.cost is None else state.cost
        if course.scores:
            left = course.search.left
            course.progress = course.progress.after(best, course.foretold, exhausted=left == 0)
        else:  # its default alone
            course.progress = replace(course.progress, best=best, batches=0 if best < inf else 1)
        seen = [text for text in course.scores if text in course.costs]
        scores, costs = (np.array([values[text] for text in seen], np.float64) for values in (course.scores, course.costs))
        if len(seen) >= FEW and np.isfinite(costs).any():
            said = quality(scores, costs)
            self.log.append(
                {"program": state.key, "of": "batch", "seen": course.taught, "count": len(seen), "pairs": said.pairs}
                | {"pairwise": said.pairwise, "first": said.first, "of_eight": said.of_eight}
            )
        course.scores, course.costs = {}, {}

    def teach(self) -> None:
        """Let the model learn all of this run, and note what one that saw nothing of it makes of the same programs."""
        self.since = 0
        groups = [group for state in self.states.values() if (group := self.group(state)) is not None]
        if not groups:
            return
        enough = [group for group in groups if len(group.costs) >= FEW and np.isfinite(group.costs).any()]
        found = [quality(self.cold(group), group.costs) for group in enough]
        if found:
            self.log.append({"of": "unseen", "programs": len(found), "count": sum(len(group.costs) for group in enough), **mean(found)})
        self.model.update(groups)
        self.taught = {group.group: len(group.costs) for group in groups}

    def group(self, state: State) -> Measured | None:
        """All that was measured of one program."""
        space = state.work.task.space
        points: list[Point] = [point for text in state.tried if space.holds(point := json.loads(text))]
        if not points or space.size == 1:
            return None
        costs = [cost if (cost := state.tried[text_of(point)]) is not None else inf for point in points]
        return Measured(state.key, featurize(space, self.machine, points), np.array(costs, np.float64), name=state.work.task.name)

    def random_state(self) -> dict[str, Any]:
        """What is drawn depends on the seed and on how much was measured: there is nothing else to keep."""
        return {"seed": self.seed}


def replace_members(model: CostModel) -> Callable[[Measured], Floats]:
    """The ranking of `model` as it is now, whatever it learns later."""
    before = CostModel()
    before.names, before.members = list(model.names), list(model.members)
    return lambda group: before.rank_table(group.table).scores
