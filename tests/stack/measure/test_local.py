"""Candidates on this machine: what they cost, each way in which they fail, and that nothing is left behind."""

import math
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tvm
from onnx import TensorProto, helper, numpy_helper

from relay_passes.choices import Choices
from schedules.tuning.jobs import Work, collect
from schedules.tuning.measurement import Job, Measurement
from stack.frontends.load import load
from stack.measure.builder import Build, Builder, Setup
from stack.measure.jobs import Prepare
from stack.measure.local import LocalRunner, build_runtime
from stack.measure.native import Environment, Timer
from stack.measure.pool import Closed
from stack.measure.serve import Refused
from targets.registry import family_of, find
from tests.stack.measure.failing_rules import add_one

RULES = "tests.stack.measure.failing_rules:RULES"
JOB = Job("add-one", "add_one", tvm.ir.save_json(tvm.IRModule({"main": add_one})), "x86", [False, False], [])


def product() -> Work:
    """A product with constant weights, which a rule packs."""
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((64, 48), np.float32), "w")
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (20, count)) for name, count in (("x", 64), ("y", 48))]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "one", tensors[:1], tensors[1:], [weight])
    target = find("x86")
    module = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), {}).module
    for graph_pass in family_of(target).graph_passes(target.machine, Choices()):
        module = graph_pass(module)
    works = collect(module, family_of(target).rules, target.machine, "x86")
    return next(work for work in works.values() if work.task.space.pack)


@pytest.fixture(scope="module")
def runner() -> Iterator[LocalRunner]:
    made = LocalRunner(find("x86"), rules=RULES, run_seconds=1, memory=64 << 30)
    yield made
    made.close()


def descendants(of: int) -> set[int]:
    """Processes that `of` started, and those that they did."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(stat.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(stat.parent.name))
    found = {of}
    while more := {child for each in found for child in children.get(each, ())} - found:
        found |= more
    return found - {of}


def test_a_good_point_has_a_cost_and_every_other_its_class_of_failure(runner: LocalRunner) -> None:
    ways = {
        "good": None,
        "raises": "does not build",
        "asks for much": "out of memory",
        "cannot pack": "does not build",
        "wrong": "wrong result",
        "hangs": "timed out",
        "aborts": "crashed",
        "needs much": "out of memory",
        "good too": None,
    }
    futures = {way: runner.submit(JOB, {"way": way}, math.inf) for way in ways}
    measured = {way: future.result(60) for way, future in futures.items()}
    assert {way: measurement.failure for way, measurement in measured.items()} == ways
    for way, measurement in measured.items():
        assert math.isinf(measurement.cost) == (ways[way] is not None)
        assert bool(measurement.detail) == (ways[way] is not None)
    assert 0 < measured["good"].cost < 1e-3
    assert measured["good"].settled
    assert measured["raises"].detail == "ValueError: is no schedule"
    assert measured["cannot pack"].detail == "its constants have no form for this point"
    assert measured["aborts"].detail.startswith("SIGABRT")
    assert measured["wrong"].detail.startswith("off by 1")


def test_points_that_are_compiled_together_are_measured_each_for_itself(tmp_path: Path) -> None:
    (tmp_path / "job").write_bytes(pickle.dumps(JOB))
    builder = Builder(Setup(find("x86"), Environment(build_runtime(tmp_path / "runtime.so"), 1, 1 << 20), RULES))
    assert [each.failure for each in builder.handle([Prepare(tmp_path)])] == [""]
    ways = ("good", "raises", "wrong", "slow")
    good, raises, wrong, slow = builder.handle([Build(tmp_path, {"way": way}, way) for way in ways])
    assert raises.failure == "does not build"
    assert [each.value.kernel for each in (good, wrong, slow)] == ["candidate", "candidate1", "candidate2"]
    good.value.library.unlink()  # the others keep theirs
    timer = Timer(builder.setup.environment)
    assert timer.time((slow.value, math.inf)).cost > 0
    with pytest.raises(Refused, match="off by 1"):
        timer.time((wrong.value, math.inf))


def test_a_hopeless_candidate_is_stopped_early(runner: LocalRunner) -> None:
    best = runner.submit(JOB, {"way": "good"}, math.inf).result(60)
    slow = runner.submit(JOB, {"way": "slow"}, best.cost).result(60)
    assert slow.failure is None
    assert not slow.settled
    assert slow.cost > 1.5 * best.cost


def test_counts_say_what_was_done(runner: LocalRunner) -> None:
    before = runner.counts()
    runner.submit(JOB, {"way": "good"}, math.inf).result(60)
    runner.submit(JOB, {"way": "raises"}, math.inf).result(60)
    after = runner.counts()
    assert (after.builds - before.builds, after.measures - before.measures) == (2, 1)
    assert after.failures["does not build"] == before.failures.get("does not build", 0) + 1
    assert after.build_seconds > before.build_seconds
    assert after.measures_per_minute > 0


def test_two_jobs_take_turns_and_constants_are_packed(runner: LocalRunner) -> None:
    work = product()
    turns = [(work.job, work.task.space.default), (JOB, {"way": "good"})] * 3
    for future in [runner.submit(job, point, math.inf) for job, point in turns]:
        measurement = future.result(60)
        assert measurement.failure is None, measurement.detail
        assert measurement.device == runner.device


def test_closing_ends_what_is_under_way_and_leaves_nothing() -> None:
    before = descendants(os.getpid())
    runner = LocalRunner(find("x86"), rules=RULES)
    futures: list[Future[Measurement]] = [runner.submit(JOB, {"way": "builds for ever"}, math.inf) for _ in range(4)]
    runner.close()
    runner.close()
    for future in futures:
        with pytest.raises(Closed):
            future.result(10)
    assert descendants(os.getpid()) == before
    assert not runner.ledger.folder.exists()
