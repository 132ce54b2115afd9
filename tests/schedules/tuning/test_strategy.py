"""The loop of tuning on synthetic costs: where trials go, what is proposed, and that the model is taught."""

import math
from concurrent.futures import Future

import numpy as np
import pytest
from tvm import te

from schedules.loopnest import Loop, LoopNest, Operand, dim
from schedules.machine import Machine
from schedules.space import Space
from schedules.tuning.cost_model import CostModel
from schedules.tuning.database import Record, Scope, text_of
from schedules.tuning.jobs import Work
from schedules.tuning.measurement import Job, Measurement
from schedules.tuning.rounds import Budget, Rounds, State
from schedules.tuning.strategy import LESSON, Learned
from schedules.tuning.task import Task

SCOPE = Scope("toy", "0", "0")
SIZES = (1, 2, 4, 8, 16, 32)


def space(legal=lambda point: True) -> Space:
    def nests(columns):
        a, b = columns["a"], columns["b"]
        loops = (Loop("i", 64 / a), Loop("j", 64 / b), Loop("ii", a, "unrolled"), Loop("jj", b, "vector"))
        operands = (Operand("x", 4, "read", (dim(i=a, ii=1),)), Operand("y", 4, "write", (dim(i=a, ii=1), dim(j=b, jj=1))))
        return [LoopNest(loops, operands, 64 * 64)]

    knobs = {"a": SIZES, "b": SIZES, "order": ("x", "y")}
    return Space("toy", {"a": 1, "b": 1, "order": "x"}, lambda point: None, knobs, legal=legal, nests=nests)


def state(key: str, weight: float = 1.0, one: Space | None = None) -> State:
    x = te.placeholder((4,), name="x")
    program = te.create_prim_func([x, te.compute((4,), lambda i: x[i], name="y")])
    task = Task(key, key, program, one or space(), 1, [])
    return State(Work(task, Job(key, key, "", "toy", [], []), 100, 100), weight)


def cost(point) -> float:
    """Best where a tile of 4 x 16 is taken in the order y."""
    return 1e-3 * (1 + abs(math.log2(point["a"]) - 2) + abs(math.log2(point["b"]) - 4) + (point["order"] == "x"))


class Runner:
    unit, device, parallel = "seconds", "toy", 3

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def submit(self, job, point, best):
        self.seen.append((job.key, text_of(point)))
        future: Future[Measurement] = Future()
        future.set_result(Measurement(cost(point) * (10 if job.key == "heavy" else 1)))
        return future

    def close(self) -> None:
        pass


def rounds(states, strategy, runner, **budget) -> tuple[Rounds, list[Record]]:
    kept: list[Record] = []

    def make(of, point, measurement):
        return Record(of.key, "toy", SCOPE, point, measurement.cost, "seconds")

    return Rounds(states, runner, make, kept.append, strategy, Budget(**budget)), kept


def learned(seed: int = 0) -> Learned:
    return Learned(Machine(), CostModel(), seed)


def test_the_default_of_each_task_comes_first_and_no_point_twice():
    states, runner = [state("a"), state("b")], Runner()
    loop, kept = rounds(states, learned(), runner, trials=40)
    assert loop.run() == "all trials are used"
    assert {key for key, _ in runner.seen[:2]} == {"a", "b"}
    assert {text for _, text in runner.seen[:2]} == {text_of(space().default)}
    assert len(set(runner.seen)) == len(runner.seen) == len(kept) == loop.trials == 40


def test_most_trials_go_where_most_time_is():
    states, runner = [state("light"), state("heavy", weight=3)], Runner()
    rounds(states, learned(), runner, trials=42)[0].run()
    assert states[1].trials > 2 * states[0].trials


def test_the_model_finds_the_best_sooner_than_it_could_by_chance():
    """72 points each; in 30 trials of each of 4 tasks the best, which chance would find for 1 task or 2."""
    states, runner = [state(key) for key in "abcd"], Runner()
    strategy = learned()
    rounds(states, strategy, runner, trials=120)[0].run()
    assert [state.cost for state in states] == [1e-3] * 4
    assert strategy.model.trained


def test_a_finished_search_ends_the_run():
    small = space(legal=lambda point: point["a"] == 1 and point["b"] <= 2)
    states, runner = [state("a", one=small)], Runner()
    loop, _ = rounds(states, learned(), runner, trials=1000)
    assert loop.run() == "nothing more is to be gained"
    assert len(runner.seen) <= 4


def test_what_was_measured_before_is_known():
    states, runner = [state("a")], Runner()
    for a in SIZES:
        point = {"a": a, "b": 16, "order": "y"}
        states[0].learn(Record("a", "toy", SCOPE, point, cost(point), "seconds"))
    before = set(states[0].tried)
    rounds(states, learned(), runner, trials=20)[0].run()
    assert not before & {text for _, text in runner.seen}
    assert states[0].cost == 1e-3


def test_every_lesson_is_validated_on_what_the_model_had_not_seen():
    strategy = learned()
    rounds([state(key) for key in "abc"], strategy, Runner(), trials=3 * LESSON)[0].run()
    lessons = [entry for entry in strategy.log if entry["of"] == "unseen"]
    batches = [entry for entry in strategy.log if entry["of"] == "batch"]
    assert lessons
    assert batches
    for entry in [*lessons, *batches]:
        assert all(0 <= entry[name] <= 1 for name in ("pairwise", "first", "of_eight"))
    assert {key for key, _, _ in strategy.predicted} <= set("abc")


def test_equal_seeds_propose_equal_points():
    def seen(seed):
        runner = Runner()
        rounds([state("a"), state("b")], learned(seed), runner, trials=30)[0].run()
        return runner.seen

    assert seen(1) == seen(1)
    assert seen(1) != seen(2)


@pytest.mark.parametrize("failure", ["crashed", "device lost"])
def test_only_what_the_machine_spoilt_may_be_tried_again(failure):
    one = state("a")
    one.learn(Record("a", "toy", SCOPE, one.work.task.space.default, None, "seconds", failure=failure))
    assert one.cost is None
    assert (text_of(one.work.task.space.default) in one.tried) == (failure == "crashed")
    assert one.failures == {failure: 1}


def test_a_hopeless_candidate_is_known_and_never_the_best():
    one = state("a")
    point = one.work.task.space.default
    one.learn(Record("a", "toy", SCOPE, point, 1e-3, "seconds", settled=False))
    assert one.cost is None
    assert one.tried == {text_of(point): 1e-3}
    assert np.isfinite(one.tried[text_of(point)])
