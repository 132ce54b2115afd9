"""Points are proposed once each, good ones soon, and a search goes on where it was."""

import json
from math import inf

import numpy as np

from schedules.space import Space
from schedules.tuning.cost_model import Ranking
from schedules.tuning.search import Search, nearest

SIZES = tuple(range(1, 9))


def space_of(knobs=None, legal=lambda point: point["a"] * point["b"] <= 32):
    knobs = knobs or {"a": SIZES, "b": SIZES, "order": ("xy", "yx")}
    default = {name: values[0] for name, values in knobs.items()}
    return Space("s", default, lambda point: None, knobs, legal=legal)


def cost(point):
    return (point["a"] - 5) ** 2 + (point["b"] - 3) ** 2 + (point["order"] == "yx") + 1.0


def informed(points):
    return Ranking(np.array([-cost(point) for point in points]), np.zeros(len(points)))


def ignorant(points):
    return Ranking(np.zeros(len(points)), np.ones(len(points)))


def run(search, rank, batches, count=8):
    found = []
    for _ in range(batches):
        batch = search.propose(count, rank)
        found += batch
        for point in batch:
            search.record(point, cost(point))
    return found


def unique(points):
    return {json.dumps(point, sort_keys=True) for point in points}


def test_the_first_batch_begins_with_the_default_and_what_is_known_to_be_good():
    search = Search(space_of(), known=[{"a": 4, "b": 20, "order": "yx"}, {"other": 1}])
    assert search.propose(4, ignorant)[:2] == [{"a": 1, "b": 1, "order": "xy"}, {"a": 4, "b": 8, "order": "yx"}]


def test_the_model_leads_straight_to_the_best_point():
    assert {"a": 5, "b": 3, "order": "xy"} in Search(space_of()).propose(4, informed)


def test_a_small_space_is_exhausted_without_a_repetition_and_says_so():
    space = space_of()
    search = Search(space)
    found = run(search, ignorant, 20)
    legal = sum(a * b <= 32 for a in SIZES for b in SIZES) * 2
    assert len(found) == len(unique(found)) == legal
    assert all(space.holds(point) for point in found)
    assert search.exhausted
    assert search.left == 0


def test_what_others_measured_is_not_proposed():
    search = Search(space_of())
    for a in SIZES:
        search.record({"a": a, "b": 3, "order": "xy"}, inf)
    found = run(search, informed, 20)
    assert not any(point["b"] == 3 and point["order"] == "xy" for point in found)


def test_a_space_too_large_to_count_is_searched_by_evolution():
    knobs = {"a": tuple(range(1, 65)), "b": tuple(range(1, 65)), "c": tuple(range(64)), "order": ("xy", "yx")}
    search = Search(space_of(knobs, legal=lambda point: point["a"] * point["b"] <= 512))
    assert search.left is None
    found = run(search, informed, 4, count=16)
    assert len(unique(found)) == len(found) == 64
    assert min(map(cost, found)) == 1.0


def test_some_points_are_different_whatever_the_model_says():
    first = run(Search(space_of(), seed=3), informed, 2, count=20)
    best = sorted(cost({"a": a, "b": b, "order": o}) for a in SIZES for b in SIZES for o in ("xy", "yx") if a * b <= 32)
    assert max(map(cost, first)) > best[len(first)]


def test_a_restarted_search_goes_on_as_if_it_had_not_stopped():
    whole = Search(space_of(), seed=7)
    before = run(whole, ignorant, 2)
    state = json.loads(json.dumps(whole.state()))
    resumed = Search.restore(space_of(), state)
    assert run(resumed, ignorant, 3) == run(whole, ignorant, 3)
    assert not unique(run(resumed, ignorant, 30)) & unique(before)


def test_points_on_their_way_when_it_stopped_come_first():
    search = Search(space_of(), seed=1)
    lost = search.propose(4, ignorant)
    search.record(lost[0], 5.0)
    resumed = Search.restore(space_of(), json.loads(json.dumps(search.state())))
    assert resumed.propose(3, ignorant) == lost[1:]


def test_the_same_seed_proposes_the_same():
    assert run(Search(space_of(), seed=5), ignorant, 3) == run(Search(space_of(), seed=5), ignorant, 3)


def test_a_point_moves_to_the_nearest_sizes():
    assert nearest(space_of(), {"a": 3, "b": 9, "order": "xy"}) == {"a": 3, "b": 8, "order": "xy"}
    assert nearest(space_of(), {"a": 3, "b": 9, "order": "zz"}) is None
    assert nearest(space_of(), {"a": 3}) is None
    assert nearest(space_of(), {"a": 8, "b": 8, "order": "xy"}) is None
