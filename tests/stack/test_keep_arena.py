"""A tuned decision never costs memory that nobody has: it is taken back, or kept where a board has room for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stack
from relay_passes.choices import Choices
from schedules.space import Point, Space
from schedules.tuning.database import Database, Record
from schedules.tuning.jobs import collect
from stack.decide import scope_of
from stack.graph import read
from stack.keep_arena import asks_more
from stack.library import Library
from targets.registry import family_of, find
from tests.stack.test_lower_peak import swelling

DEPTHWISE = swelling(stride=2, size=40, channels=2, multiplier=1)  # whose arena is fullest at the depthwise layer
FUSED = swelling()


def decide(file: Path, data: bytes, target: str, choose: Callable[[Space], Point], places: dict[str, str] | None = None) -> str:
    """A database with a decision for each program of a model, and for places of its graph."""
    machine = find(target)
    family, graph = family_of(machine), read(data, machine, family_of(machine), {})
    database = Database.open(str(file))
    for key, work in collect(graph.programs(Choices(places or {})), family.rules, machine.machine, target).items():
        space = work.task.space
        database.add_program(key, work.task.name, space.rule, work.job.program)
        database.record(Record(key, space.rule, scope_of(machine), choose(space), 1.0, "instructions"))
    database.save_graph(graph.key, scope_of(machine), places or {}, 1.0)
    database.close()
    return str(file)


def most_rows(space: Space) -> Point:
    """The depthwise layer's whole plane at once; every other layer's default."""
    return {**space.default, "rows": max(space.knobs["rows"])} if space.rule == "dsp_depthwise" else space.default


def depthwise(library: Library) -> dict[str, Any]:
    (operator,) = (operator for operator in library.manifest["operators"] if operator["rule"] == "dsp_depthwise")
    return dict(operator)


def test_where_only_the_core_is_known_the_arena_stays(tmp_path: Path) -> None:
    url = decide(tmp_path / "t.db", DEPTHWISE, "cortex-m4", most_rows)
    plain, tuned = stack.compile(DEPTHWISE, "cortex-m4", untuned=True), stack.compile(DEPTHWISE, "cortex-m4", database=url)
    assert tuned.manifest["arena_bytes"] == plain.manifest["arena_bytes"]
    assert depthwise(tuned)["decision"] == depthwise(plain)["decision"]
    assert "tuned" in tuned.manifest["decided"], "the other decisions stay"


def test_a_board_with_room_takes_the_quicker_kernel(tmp_path: Path) -> None:
    url = decide(tmp_path / "t.db", DEPTHWISE, "mps2-an386", most_rows)
    plain, tuned = stack.compile(DEPTHWISE, "mps2-an386", untuned=True), stack.compile(DEPTHWISE, "mps2-an386", database=url)
    assert tuned.manifest["arena_bytes"] > plain.manifest["arena_bytes"]
    assert depthwise(tuned)["decision"]["rows"] == 20 > depthwise(plain)["decision"]["rows"]


@pytest.mark.parametrize(("target", "rules"), [("cortex-m4", 1), ("mps2-an386", 0)])
def test_what_was_fused_for_memory_may_be_separate_where_there_is_room(target: str, rules: int, tmp_path: Path) -> None:
    url = decide(tmp_path / "t.db", FUSED, target, lambda space: space.default, {"rows/0": "separate"})
    found = [operator["rule"] for operator in stack.compile(FUSED, target, database=url).manifest["operators"]]
    assert found.count("fused_rows") == rules
    assert "fused_rows" in [operator["rule"] for operator in stack.compile(FUSED, target, untuned=True).manifest["operators"]]


def test_what_a_kernel_asks_for_more() -> None:
    in_place = {"0": (0, False)}
    assert asks_more(100, in_place, 100, in_place) == 0
    assert asks_more(164, in_place, 100, in_place) == 64
    assert asks_more(10, {}, 100, in_place) == 1
    assert asks_more(10, {"0": (8, False)}, 100, in_place) == 1
    assert asks_more(10, {"0": (0, True)}, 100, in_place) == 1
    assert asks_more(10, {"0": (-4, False)}, 100, in_place) == 0
