from itertools import product

import numpy as np
import pytest

from schedules.tuning.assign import assign, turned_kinds, turned_places


def test_without_places_it_is_the_graph_as_it_is():
    assert assign({}, lambda choices: 5.0) == ({}, 5.0)


def test_few_assignments_are_all_tried():
    places = {"a/0": ("x", "y"), "a/1": ("x", "y"), "b/0": ("x", "y", "z")}
    costs = {choice: cost for cost, choice in enumerate(product("xy", "xy", "xyz"), 3)}
    costs["y", "x", "z"] = 1
    asked = []

    def cost(choices):
        asked.append(choices)
        return costs[tuple(choices.get(place, "x") for place in places)]

    assert assign(places, cost) == ({"a/0": "y", "b/0": "z"}, 1)
    assert len(asked) == 12


def test_a_gain_that_is_noise_is_none():
    assert assign({"a/0": ("x", "y")}, lambda choices: 0.9995 if choices else 1.0) == ({}, 1.0)


def quadratic(names, seed):
    """A cost with a part for each place and one for each pair of neighbours."""
    rng = np.random.default_rng(seed)
    alone, together = rng.normal(size=len(names)), 2 * rng.normal(size=len(names) - 1)

    def cost(choices):
        on = np.array([choices.get(name) == "y" for name in names], float)
        return 100 + float(alone @ on + together @ (on[1:] * on[:-1]))

    return cost


@pytest.mark.parametrize("seed", range(8))
def test_many_places_are_an_integer_program_which_knows_of_neighbours(seed):
    names = [f"a/{index}" for index in range(9)]
    cost = quadratic(names, seed)
    best = min(cost(dict(zip(names, on, strict=True))) for on in product("xy", repeat=9))
    asked = []
    _, found = assign(dict.fromkeys(names, ("x", "y")), lambda choices: asked.append(0) or cost(choices), most=40)
    assert found == pytest.approx(best)
    assert len(asked) <= 40


def test_where_each_place_is_too_much_kinds_are_turned_as_a_whole():
    places = dict.fromkeys([f"a/{index}" for index in range(50)] + [f"b/{index}" for index in range(50)], ("x", "y"))
    choices, cost = assign(places, lambda choices: 100 - sum(1 if place[0] == "a" else -1 for place in choices), most=64)
    assert cost == 50
    assert set(choices) == {f"a/{index}" for index in range(50)}


def test_turning():
    places = {"a/0": ("x", "y"), "a/1": ("x", "y", "z"), "b/0": ("p", "q")}
    assert turned_kinds(places) == [{"a/0": "y", "a/1": "y"}, {"a/1": "z"}, {"b/0": "q"}]
    assert turned_places(places) == [{"a/0": "y"}, {"a/1": "y"}, {"a/1": "z"}, {"b/0": "q"}]
