"""Whole models with decisions: those that spoil the outputs are found, named and dropped."""

import numpy as np
import onnx
import pytest

from relay_passes.choices import Choices
from schedules.tuning.database import Database, Record
from schedules.tuning.jobs import collect
from stack.decide import scope_of
from stack.graph import read
from stack.tuning import check as checks
from stack.tuning.check import Check, emulated, halve, integers_equal, worst
from targets.registry import family_of, find
from tests.stack.tuning.test_tune import convolutions


def test_halving_finds_the_one_that_is_wrong():
    asked = []

    def wrong(keys):
        asked.append(keys)
        return "f" in keys

    assert halve(list("abcdefgh"), wrong) == ["f"]
    assert len(asked) <= 6


def test_halving_stops_where_two_are_only_wrong_together():
    assert halve(list("abcd"), lambda keys: {"a", "d"} <= set(keys)) == ["a", "b", "c", "d"]
    assert halve(list("abcd"), lambda keys: {"a", "b"} <= set(keys)) == ["a", "b"]


def test_floats_differ_by_their_share_of_the_largest():
    reference = [{"y": np.array([0.0, 10.0])}]
    assert worst([{"y": np.array([0.1, 10.0])}], reference) == pytest.approx(0.01)
    assert worst([{"y": np.array([np.nan, 10.0])}], reference) == float("inf")
    assert worst([{"y": np.array([1, 2])}], [{"y": np.array([3, 4])}]) == 0  # integers are another matter


def test_integers_must_be_equal_unless_they_are_rounded_from_floats():
    ours, theirs = [{"y": np.array([1] * 2000, np.int8)}], [{"y": np.array([2] + [1] * 1999, np.int8)}]
    assert integers_equal(ours, ours, rounds=False)
    assert not integers_equal(ours, theirs, rounds=False)
    assert integers_equal(ours, theirs, rounds=True)
    assert not integers_equal(ours, [{"y": np.array([2] * 2000, np.int8)}], rounds=True)


def test_a_decision_that_spoils_the_model_is_dropped_and_named(tmp_path, monkeypatch):
    onnx.save(convolutions(), tmp_path / "m.onnx")
    target = find("x86")
    family = family_of(target)
    graph = read(tmp_path / "m.onnx", target, family, {})
    module = graph.programs(Choices())
    database = Database.open(tmp_path / "t.db")
    works = [work for work in collect(module, family.rules, target.machine, "x86").values() if work.task.space.rule == "conv2d"]
    for work in works:
        database.record(Record(work.task.key, "conv2d", scope_of(target), work.task.space.default, 1e-3, "seconds"))
    spoilt = works[-1].task.key
    real = checks.build

    def build(module, signature, target, family, decisions, *rest):
        library = real(module, signature, target, family, decisions, *rest)
        if spoilt in decisions.keep and database.best(spoilt, scope_of(target)):
            run = library.run
            library.run = lambda arrays: {name: array * 1.1 for name, array in run(arrays).items()}
        return library

    monkeypatch.setattr(checks, "build", build)
    monkeypatch.setattr(Check, "times", lambda self, libraries, arrays: (dict.fromkeys(libraries, 1.0), "ms"))
    checked = Check(graph, module, module, database, "f32", None, {}, threads=1).run()
    assert checked.dropped == [works[-1].task.name]
    assert checked.difference < 1e-6
    assert checked.reference == "the untuned library"
    assert database.best(spoilt, scope_of(target)) is None
    assert all(database.best(work.task.key, scope_of(target)) for work in works[:-1])


@pytest.mark.parametrize(
    ("target", "place"), [("nucleo-f446re", {"board": "cortex-m4"}), ("mps2-an386", {}), ("cortex-m0", {"board": "cortex-m0"})]
)
def test_firmware_for_a_board_that_qemu_lacks_runs_on_its_core(target, place):
    assert emulated(find(target)) == place
