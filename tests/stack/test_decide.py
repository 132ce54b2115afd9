"""Which point a program gets: what was measured here, else what ships, else what is foretold with confidence, else the default."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tvm
from tvm import te, tirx

from schedules.apply import schedule
from schedules.cpu.fallback import fallback
from schedules.space import Space
from schedules.tuning.cost_model import Ranking
from schedules.tuning.database import Database, Record
from schedules.tuning.jobs import adapted, precision_of, restricted
from schedules.tuning.task import program_key
from stack import decide
from stack.decide import Decisions, candidates, isa, neighbours, permitting, scope_of, summary
from stack.errors import StackError
from targets.registry import find

TARGET = find("x86-avx2")


def program(name: str = "double") -> tirx.PrimFunc:
    x = te.placeholder((64,), name="x")
    return te.create_prim_func([x, te.compute((64,), lambda i: x[i] * 2, name="y")]).with_attr("global_symbol", name)


def space(**knobs) -> Space:
    knobs = knobs or {"tile": (1, 2, 4, 8), "order": ("rows", "columns")}
    return Space("toy", {name: values[0] for name, values in knobs.items()}, lambda point: None, knobs, nests=lambda point: [])


def record(point, cost=1e-3, precision="f32") -> Record:
    return Record(program_key(program()), "toy", scope_of(TARGET), point, cost, "seconds", precision=precision)


@pytest.fixture
def database(tmp_path) -> Database:
    return Database.open(tmp_path / "t.db")


@pytest.fixture(autouse=True)
def nothing_ships(monkeypatch, tmp_path):
    monkeypatch.setattr(decide, "tuned_folder", lambda family: tmp_path / "tuned")


def test_without_any_knowledge_it_is_the_default(database):
    assert Decisions(TARGET, database).decide(program(), space()) == ({"tile": 1, "order": "rows"}, "default")


def test_what_was_measured_comes_first_and_untuned_ignores_it(database):
    database.record(record({"tile": 8, "order": "rows"}))
    database.record(record({"tile": 4, "order": "rows"}, cost=2e-3))
    assert Decisions(TARGET, database).decide(program("another_name"), space()) == ({"tile": 8, "order": "rows"}, "tuned")
    assert Decisions(TARGET, database, untuned=True).decide(program(), space())[1] == "default"


def test_a_point_that_the_space_no_longer_holds_is_ignored(database):
    database.record(record({"tile": 16, "order": "rows"}))
    assert Decisions(TARGET, database).decide(program(), space())[1] == "default"


def test_another_machine_does_not_decide(database):
    other = replace(TARGET, machine=replace(TARGET.machine, l2_bytes=1 << 16))
    database.record(record({"tile": 8, "order": "rows"}))
    assert Decisions(other, database).decide(program(), space())[1] == "default"


def test_a_reduced_precision_is_for_those_who_ask(database):
    both = space(tile=(1, 2), precision=("f32", "bf16"))
    database.record(record({"tile": 1, "precision": "f32"}))
    database.record(record({"tile": 2, "precision": "bf16"}, cost=1e-4, precision="bf16"))
    assert Decisions(TARGET, database).decide(program(), both) == ({"tile": 1, "precision": "f32"}, "tuned")
    assert Decisions(TARGET, database, precision="bf16").decide(program(), both) == ({"tile": 2, "precision": "bf16"}, "tuned")
    assert restricted(both, "f32").knobs["precision"] == ("f32",)


def test_points_of_full_precision_serve_spaces_with_and_without_that_knob():
    both, one = space(tile=(1, 2), precision=("f32", "bf16")), space(tile=(1, 2))
    assert adapted({"tile": 2}, both) == {"tile": 2, "precision": "f32"}
    assert adapted({"tile": 2, "precision": "f32"}, one) == {"tile": 2}
    assert not one.holds(adapted({"tile": 2, "precision": "bf16"}, one))


def test_allowing_a_precision_changes_the_machine_and_not_where_results_are_kept():
    allowed = permitting(TARGET, "bf16")
    assert allowed.machine.reduced_precision
    assert scope_of(allowed) == scope_of(TARGET)
    with pytest.raises(StackError, match="no precision is called 'int4'"):
        permitting(TARGET, "int4")


@pytest.mark.parametrize("name", ["cortex-m4", "cuda-sm80"])
def test_a_precision_in_which_nothing_computes_is_refused_rather_than_ignored(name):
    assert permitting(find(name), "f32") == find(name)
    with pytest.raises(StackError) as refused:
        permitting(find(name), "bf16")
    assert str(refused.value) == f"error: nothing computes in bf16 for '{name}'\n  hint: leave --precision out: floats stay float32 there"


def test_all_ways_to_compute_in_a_precision_are_for_those_who_ask_for_it(database):
    three = space(tile=(1, 2), precision=("f32", "bf16", "bf16_dot"))
    assert restricted(three, "f32").knobs["precision"] == ("f32",)
    assert restricted(three, "bf16") == three
    assert precision_of({"precision": "bf16_dot"}) == "bf16"
    database.record(record({"tile": 2, "precision": "bf16_dot"}, precision="bf16"))
    assert Decisions(TARGET, database).decide(program(), three)[1] == "default"
    assert Decisions(TARGET, database, precision="bf16").decide(program(), three) == ({"tile": 2, "precision": "bf16_dot"}, "tuned")


def test_what_ships_and_what_is_foretold_keep_the_precision_of_the_default(database, tmp_path, monkeypatch):
    three = replace(space(precision=("bf16", "f32", "bf16_dot"), tile=(1, 2, 4)), otherwise={"precision": "f32", "tile": 1})
    monkeypatch.setattr(decide, "model_of", lambda folder: Foretelling(1.0, 0.1))
    asking = Decisions(TARGET, database, precision="bf16")
    assert asking.decide(program(), three) == ({"precision": "bf16", "tile": 4}, "predicted")
    (tmp_path / "tuned").mkdir()
    entry = {"isa": isa(TARGET.machine), "program": program_key(program()), "point": {"tile": 2}}
    (tmp_path / "tuned/decisions.jsonl").write_text(json.dumps(entry) + "\n")
    decide.shipped.cache_clear()
    assert asking.decide(program(), three) == ({"precision": "bf16", "tile": 2}, "shipped")


def test_shipped_decisions_are_for_machines_with_the_same_instructions_and_caches(database, tmp_path):
    (tmp_path / "tuned").mkdir()
    entry = {"isa": isa(TARGET.machine), "program": program_key(program()), "point": {"tile": 2, "order": "columns"}}
    (tmp_path / "tuned/decisions.jsonl").write_text(json.dumps(entry) + "\n")
    assert Decisions(TARGET, None).decide(program(), space()) == ({"tile": 2, "order": "columns"}, "shipped")
    assert Decisions(replace(TARGET, machine=replace(TARGET.machine, cores=64)), None).decide(program(), space())[1] == "shipped"
    assert Decisions(replace(TARGET, machine=replace(TARGET.machine, vector_bytes=64)), None).decide(program(), space())[1] == "default"
    database.record(record({"tile": 8, "order": "rows"}))
    assert Decisions(TARGET, database).decide(program(), space())[1] == "tuned"


def test_shipped_choices_are_for_graphs_that_nobody_decided_here(database, tmp_path):
    (tmp_path / "tuned").mkdir()
    program_line = {"isa": isa(TARGET.machine), "program": program_key(program()), "point": {"tile": 2, "order": "columns"}}
    graph_line = {"isa": isa(TARGET.machine), "graph": "0123", "choices": {"layout/0": "plain"}}
    (tmp_path / "tuned/decisions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (program_line, graph_line)))
    assert Decisions(TARGET).choices("0123") == {"layout/0": "plain"}
    assert Decisions(TARGET).choices("4567") == {}
    assert Decisions(TARGET).decide(program(), space())[1] == "shipped"
    assert Decisions(replace(TARGET, machine=replace(TARGET.machine, vector_bytes=64))).choices("0123") == {}
    assert Decisions(TARGET, database, untuned=True).choices("0123") == {}
    assert Decisions(TARGET, database).choices("0123") == {"layout/0": "plain"}
    database.save_graph("0123", scope_of(TARGET), {}, 1.0)  # the default, and that was found out here
    assert Decisions(TARGET, database).choices("0123") == {}
    assert Decisions(TARGET, database, untuned=True).choices("0123") == {}


class Foretelling:
    """A trained model that likes large tiles, by `step` each, and is as sure as `uncertainty` says."""

    trained = True

    def __init__(self, step: float, uncertainty: float) -> None:
        self.step, self.uncertainty = step, uncertainty

    def rank(self, space, machine, points):
        scores = np.array([self.step * np.log2(point["tile"]) for point in points])
        return Ranking(scores, np.full(len(points), self.uncertainty))


@pytest.mark.parametrize(("step", "uncertainty", "expected"), [(1.0, 0.1, 8), (1.0, 3.0, 1), (0.1, 0.0, 1), (-1.0, 0.0, 1)])
def test_a_prediction_counts_where_it_is_clearly_ahead_of_the_default(step, uncertainty, expected, monkeypatch):
    monkeypatch.setattr(decide, "model_of", lambda folder: Foretelling(step, uncertainty))
    point, source = Decisions(TARGET).decide(program(), space())
    assert (point["tile"], source) == (expected, "predicted" if expected != 1 else "default")


def test_large_spaces_are_ranked_in_part_and_refined(monkeypatch):
    monkeypatch.setattr(decide, "model_of", lambda folder: Foretelling(1.0, 0.0))
    large = space(tile=tuple(range(1, 400)), other=tuple(range(50)))
    assert 300 < len(candidates(large)) < 500
    assert candidates(large) == candidates(large)
    assert Decisions(TARGET).decide(program(), large)[0]["tile"] == 399


def test_candidates_and_neighbours_are_legal():
    odd = replace(space(), legal=lambda point: point["tile"] != 4)
    assert {point["tile"] for point in candidates(odd)} == {1, 2, 8}
    assert neighbours(odd, odd.default) == [
        {"tile": 2, "order": "rows"},
        {"tile": 8, "order": "rows"},
        {"tile": 1, "order": "columns"},
    ]


def test_programs_say_where_their_decision_came_from_and_constants_may_overrule_it():
    module = tvm.IRModule({"double": program()})
    decisions = Decisions(TARGET)
    taken = fallback(program(), TARGET.machine)
    main = tvm.relax.Function([], tvm.relax.SeqExpr([], tvm.relax.Tuple([])), tvm.relax.TupleType([]))
    module["main"] = main
    scheduled = schedule(module, [lambda program, machine: taken], TARGET.machine, decide=decisions)
    assert decisions.label(module, scheduled)["double"].attrs["stack.source"] == "default"
    decisions.taken[module["double"]] = {"tile": 3}, "tuned"  # what was decided, and is not what the program has
    assert decisions.label(module, scheduled)["double"].attrs["stack.source"] == "default"
    decisions.taken[module["double"]] = json.loads(str(scheduled["double"].attrs["stack.decision"])), "tuned"
    assert decisions.label(module, scheduled)["double"].attrs["stack.source"] == "tuned"


def test_the_summary_counts_sources_in_order():
    assert summary(["default", "tuned", "default"]) == "1 tuned, 2 default"
