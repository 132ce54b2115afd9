"""The data set of the cost model: every program to as many points, groups out of a database, and what of it ships."""

import sys
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import te

ROOT = Path(__file__).parents[2]
TARGET = "x86-avx2"


@pytest.fixture(scope="module")
def scripts():
    """The two scripts, which import each other by name."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import cost_model
        import pretrain

        yield cost_model, pretrain
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def elementwise(size):
    from schedules.rule import first_space
    from schedules.tuning.jobs import Work
    from schedules.tuning.measurement import Job
    from schedules.tuning.task import Task, program_key
    from targets.registry import family_of, find

    x = te.placeholder((size, 64), "float32", "x")
    program = te.create_prim_func([x, te.compute(x.shape, lambda i, j: x[i, j] + 1.0, "y")])
    target = find(TARGET)
    space = first_space(family_of(target).rules, program, target.machine)
    key = program_key(program)
    job = Job(key, f"add{size}", tvm.ir.save_json(tvm.IRModule({"main": program})), TARGET, [False, False], [])
    return Work(Task(key, f"add{size}", program, space, 1, []), job, size * 64, size * 512)


class Runner:
    """Costs by a formula; nothing is built."""

    unit, device, parallel = "seconds", "a formula", 3

    def __init__(self):
        self.asked = Counter()

    def submit(self, job, point, best):
        from schedules.tuning.measurement import Measurement

        self.asked[job.key, str(point)] += 1
        future = Future()
        cost = 1e-6 * (1 + 1 / point["vectors"])
        future.set_result(Measurement(np.inf, failure="crashed") if point["vectors"] == 2 else Measurement(cost, device=self.device))
        return future

    def close(self):
        pass


def test_a_data_set_is_measured_once_and_becomes_groups_and_decisions(scripts, tmp_path, monkeypatch):
    cost_model, pretrain = scripts
    from schedules.tuning.database import Database

    runner = Runner()
    monkeypatch.setattr("stack.measure.open.open_runner", lambda target, **_: runner)
    database = Database.open(tmp_path / "zoo.db")
    works = [elementwise(size) for size in (1024, 4096)]
    for points in (3, 3):
        cost_model.measure(works, TARGET, database, points, 30.0, lambda text: None)
    assert Counter(key for key, _ in runner.asked) == {work.task.key: 3 for work in works}
    times = {point: count for (_, point), count in runner.asked.items()}
    assert times == {"{'vectors': 1}": 3, "{'vectors': 2}": 1, "{'vectors': 4}": 3}, "the best ones again, once for all, and no others"

    keys = [work.task.key for work in works]
    groups = cost_model.groups_of(database, {"one": keys[:1], "other": keys})
    assert Counter(group.whole for group in groups) == {"one": 1, "other": 2}
    assert all(np.isfinite(group.costs).sum() == 2 for group in groups)

    lines = pretrain.decisions(database, "x86")
    assert {line["program"]: line["point"] for line in lines} == {key: {"vectors": 4} for key in keys}
    model = pretrain.trained(groups, {"one": [], "other": []})
    assert model.trained
    assert 0 < model.validation["pairwise"] <= 1


def test_ways_through_graphs_ship_unless_they_are_the_default(scripts, tmp_path):
    _, pretrain = scripts
    from schedules.tuning.database import Database, Scope
    from stack.decide import isa
    from targets.registry import find

    database = Database.open(tmp_path / "zoo.db")
    for graph, target, choices, cost in [
        ("aa", "x86-avx2", {"layout/0": "plain"}, 1.0),
        ("bb", "x86-avx2", {}, 1.0),
        ("cc", "cortex-m7", {"rows/0": "separate"}, 2.0),
        ("cc", "stm32f746g-disco", {}, 1.0),
    ]:
        database.save_graph(graph, Scope.of(target, find(target).machine), choices, cost)
    assert pretrain.graphs(database, "x86") == [{"isa": isa(find("x86-avx2").machine), "graph": "aa", "choices": {"layout/0": "plain"}}]
    assert isa(find("cortex-m7").machine) == isa(find("stm32f746g-disco").machine)
    assert pretrain.graphs(database, "cortex_m") == [], "on the board that costs least it is the default"
