"""How well the cost model ranks programs of models that it never saw: measures the zoo's programs, then leaves out one model at a time.

    python benchmarks/cost_model.py zoo.db [--models resnet50 encoder] [--points 32] [--seconds 600] [--zoo DIR] [--json cost_model.json]

For each program of each model: its default, points drawn by chance, and points that a search led by the model proposes, until there are
as many as asked for or the time is used; what the database has is not measured again, and `--points 0` measures nothing. In the end the
default and the best points of each program are measured again, at another time: a point costs the least that was measured. Of the table,
for each model: pairwise is the share of pairs, more than 2 % and their own scatter apart, in the right order; first and of eight are the
best measured cost over that of the model's first choice and of the best of its first eight, in which each program counts the same.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import tvm
import zoo
from rich.console import Console
from rich.table import Table

from relay_passes.choices import Choices
from schedules.machine import Machine
from schedules.rule import first_space
from schedules.space import Point, Space
from schedules.tuning.cost_model import CostModel, Ranking, validate
from schedules.tuning.database import Database, Record, Scope, text_of
from schedules.tuning.features import featurize
from schedules.tuning.jobs import Work, collect, precision_of
from schedules.tuning.measurement import Measurement
from schedules.tuning.rounds import Budget, Rounds, State
from schedules.tuning.search import Search
from schedules.tuning.validation import Measured, Quality, mean
from stack.frontends.load import load
from targets.registry import family_of, find

SESSION = "benchmarks/cost_model"  # where the database keeps which model has which programs
GUIDED = 0.4  # the share of points that the model proposes, so that the best ones are among them
BATCH = 8
AGAIN, BEST = 2, 2  # times that the default and so many of the best points are measured again


def works_of(file: Path, shapes: Mapping[str, Sequence[int]], target: str) -> list[Work]:
    """The programs of one model that have more than one point."""
    found = find(target)
    family = family_of(found)
    module = load(file, shapes).module
    with tvm.transform.PassContext():
        for graph_pass in family.graph_passes(found.machine, Choices()):
            module = graph_pass(module)
    return [work for work in collect(module, family.rules, found.machine, target).values() if work.task.space.size > 1]


class Even:
    """A strategy that brings every program to as many points. `model` is None where they shall be drawn by chance."""

    def __init__(self, machine: Machine, points: int, model: CostModel | None) -> None:
        self.machine, self.points, self.model = machine, points, model
        self.searches: dict[str, Search] = {}

    def pick(self, states: Sequence[State], waiting: Mapping[str, int], left: int) -> State | None:
        def count(state: State) -> int:
            return len(state.tried) + waiting.get(state.key, 0)

        return next((state for state in states if count(state) < self.points), None)

    def propose(self, state: State, count: int) -> list[Point]:
        space = state.work.task.space
        search = self.searches.setdefault(state.key, Search(space))
        for text, cost in state.tried.items():
            search.record(json.loads(text), math.inf if cost is None else cost)

        def rank(points: Sequence[Point]) -> Ranking:
            if self.model:
                return self.model.rank(space, self.machine, points)
            return Ranking(search.chance.random(len(points)), np.zeros(len(points)))

        return [*search.propose(max(1, min(count, self.points - len(search.measured))), rank)]

    def learn(self, state: State, records: Sequence[Record]) -> None:
        pass


def measure(works: Sequence[Work], target: str, database: Database, points: int, seconds: float, tell: Callable[[str], None]) -> None:
    """Bring the database to `points` points of each program, the guided ones last, so that the model has learnt from the others."""
    from stack.measure import open_runner

    machine = find(target).machine
    scope = Scope.of(target, machine)
    states = [State(work, work.task.calls) for work in works]
    for state in states:
        task = state.work.task
        database.add_program(task.key, task.name, task.space.rule, state.work.job.program)
        for known in database.records(task.key, scope):
            if task.space.holds(known.point):
                state.learn(known)
    runner = open_runner(target)
    deadline = time.monotonic() + seconds

    def record(state: State, point: Point, found: Measurement) -> Record:
        cost = found.cost if found.failure is None else None
        spread = found.spread if found.failure is None else 0.0
        rest = (found.settled, found.failure, found.detail[:500], found.device, precision_of(point))
        return Record(state.key, state.work.task.space.rule, scope, point, cost, runner.unit, spread, *rest)

    try:
        for guided in (False, True):
            model = None
            if guided:
                model = CostModel()
                model.fit(groups_of(database, {}))
            wanted = points if guided else math.ceil((1 - GUIDED) * points)
            budget = Budget(seconds=max(1.0, deadline - time.monotonic()))
            rounds = Rounds(states, runner, record, database.record, Even(machine, wanted, model), budget, BATCH)
            stopped = rounds.run()
            tell(f"{rounds.trials} points {'by the model' if guided else 'by chance'} in {rounds.seconds:.0f} s: {stopped}")
            for state in states:
                state.closed = False
        times = Counter((each.program, text_of(each.point)) for each in database.records(scope=scope))
        asked = [
            (state, point)
            for turn in range(1, AGAIN + 1)
            for state in states
            for point in contenders(state)
            if times[state.key, text_of(point)] <= turn
        ]
        waiting: deque[tuple[State, Point, Future[Measurement]]] = deque()
        while (asked or waiting) and time.monotonic() < deadline:
            while asked and len(waiting) < runner.parallel:
                state, point = asked.pop()
                waiting.append((state, point, runner.submit(state.work.job, point, math.inf)))
            state, point, future = waiting.popleft()
            database.record(record(state, point, future.result()))
        tell("the best ones again")
    finally:
        runner.close()


def contenders(state: State) -> list[Point]:
    """The default and the best points, where there is something to choose."""
    costs = {text: cost for text, cost in state.tried.items() if cost is not None}
    texts = [text_of(state.work.task.space.default), *sorted(costs, key=lambda text: costs[text])[:BEST]]
    return [json.loads(text) for text in dict.fromkeys(texts)] if len(costs) > 1 else []


def cheapest(records: Iterable[Record]) -> dict[str, Record]:
    """Of each point the least that was measured: whatever else the machine did only added."""
    found: dict[str, Record] = {}
    for record in records:
        text = text_of(record.point)
        if text not in found or (record.cost or math.inf) < (found[text].cost or math.inf):
            found[text] = record
    return found


def groups_of(database: Database, models: Mapping[str, Sequence[str]]) -> list[Measured]:
    """What the database has, as groups to learn from; a program of several models is a group of each. `models` has their programs."""
    records: dict[tuple[str, Scope, str], list[Record]] = {}
    for record in database.records():
        if not record.dropped and record.failure != "device lost":
            records.setdefault((record.program, record.scope, record.device), []).append(record)
    groups = []
    for (program, scope, device), found in records.items():
        machine, space = space_of(database, program, scope.target)
        fitting = cheapest(record for record in found if space.holds(record.point))
        if len(fitting) < 2:
            continue
        table = featurize(space, machine, [record.point for record in fitting.values()])
        costs = np.array([math.inf if record.cost is None else record.cost for record in fitting.values()])
        spreads = np.array([record.spread for record in fitting.values()])
        name = f"{space.rule} {program}"
        owners = [model for model, programs in models.items() if program in programs] or [""]
        groups += [Measured(f"{program} {scope.target} {scope.machine} {device}", table, costs, owner, name, spreads) for owner in owners]
    return groups


def space_of(database: Database, program: str, target: str) -> tuple[Machine, Space]:
    """The machine and space of a program that the database keeps."""
    text = database.program_text(program)
    assert text is not None, f"the database has records of {program} and not the program"
    found = find(target)
    return found.machine, first_space(family_of(found).rules, tvm.ir.load_json(text)["main"], found.machine)


def show(found: Sequence[Quality], worst: int = 8) -> Iterator[Table]:
    table = Table(title="programs of a model, ranked by what all others teach")
    for title in ("model", "programs", "pairs", "pairwise", "first", "of eight"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for model in [*dict.fromkeys(one.whole for one in found), ""]:
        some = [one for one in found if model in (one.whole, "")]
        means = mean(some)
        numbers = [f"{means[name]:.3f}" for name in ("pairwise", "first", "of_eight")]
        table.add_row(model or "all", str(len(some)), str(sum(one.pairs for one in some)), *numbers, end_section=model == found[-1].whole)
    yield table
    table = Table(title="the worst ones")
    for title in ("model", "program", "pairs", "pairwise", "first", "of eight"):
        table.add_column(title, justify="left" if title in ("model", "program") else "right")
    for one in sorted(found, key=lambda one: min(one.pairwise, one.first))[:worst]:
        table.add_row(one.whole, one.name, str(one.pairs), f"{one.pairwise:.3f}", f"{one.first:.3f}", f"{one.of_eight:.3f}")
    yield table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database", help="what was measured, and will be: a file, or a URL")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="some of the zoo; all by default")
    parser.add_argument("--target", default="x86")
    parser.add_argument("--points", type=int, default=32, help="of each program")
    parser.add_argument("--seconds", type=float, default=86400.0, help="for all measurements")
    parser.add_argument("--zoo", type=Path, metavar="DIR", help="where the models are, or will be, kept; a temporary folder by default")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    console = Console(stderr=True)
    database = Database.open(options.database)
    models: dict[str, Any] = database.session(SESSION) or {}
    if options.points:
        with tempfile.TemporaryDirectory() as scratch:
            folder = options.zoo or Path(scratch)
            known = folder / "shapes.json"
            shapes = json.loads(known.read_text()) if known.exists() else zoo.write(folder)
            works: dict[str, Work] = {}
            for name in options.models or list(shapes):
                programs = works_of(folder / f"{name}.onnx", shapes[name], options.target)
                models[name] = sorted(work.task.key for work in programs)
                works |= {work.task.key: work for work in programs}
                console.print(f"{name}: {len(programs)} programs with a choice")
            database.save_session(SESSION, models)
            measure(list(works.values()), options.target, database, options.points, options.seconds, console.print)
    chosen = {name: programs for name, programs in models.items() if not options.models or name in options.models}
    groups = [group for group in groups_of(database, chosen) if group.whole]
    found = validate(groups)
    if not found:
        sys.exit("programs of two models at least have to be measured first")
    for table in show(found):
        Console(width=120).print(table)
    each = fmean(one.pairwise for one in found if one.pairs)
    Console(width=120).print(f"pairwise, where each program counts the same, those with a pair or two as well: {each:.3f}")
    if options.json:
        options.json.write_text(json.dumps({"mean": mean(found), "programs": [one.__dict__ for one in found]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
