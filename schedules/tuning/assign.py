"""Which way the graph passes go at each place, so that the whole graph costs least.

    places = {"attention/0": ("fused", "separate"), "layout/0": ("blocked", "plain")}
    choices, cost = assign(places, lambda choices: cost of the graph that these choices lead to)

Few assignments are all tried. Otherwise the cost of a graph is taken as the sum of what each place changes alone and of what neighbouring
places change together, and the cheapest assignment of that sum is found as an integer program. Whatever is found is compared with the
graph's default and with each kind of places turned as a whole, by its own cost.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise, product
from math import inf, prod

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

Places = Mapping[str, Sequence[str]]
Choices = dict[str, str]
Cost = Callable[[Mapping[str, str]], float]
MOST_TRIED = 64  # graphs whose cost is asked for
WORTH = 0.999  # of the default's cost: less is no reason to leave it


def kind_of(place: str) -> str:
    return place.rpartition("/")[0]


def turned_kinds(places: Places) -> list[Choices]:
    """Each kind of places, all of it at each of its other options."""
    found: list[Choices] = []
    for kind in dict.fromkeys(map(kind_of, places)):
        members = {place: options for place, options in places.items() if kind_of(place) == kind}
        for option in dict.fromkeys(option for options in members.values() for option in options[1:]):
            found.append({place: option for place, options in members.items() if option in options[1:]})
    return found


def turned_places(places: Places) -> list[Choices]:
    """Each place alone at each of its other options."""
    return [{place: option} for place, options in places.items() for option in options[1:]]


def assign(places: Places, cost: Cost, most: int = MOST_TRIED) -> tuple[Choices, float]:
    """The cheapest choices that were found, those that differ from the default only, and what the graph then costs."""
    known: dict[frozenset[tuple[str, str]], float] = {}

    def ask(choices: Mapping[str, str]) -> float:
        key = frozenset(choices.items())
        if key not in known:
            known[key] = cost(dict(choices))
        return known[key]

    base = ask({})
    if prod(len(options) for options in places.values()) <= most:
        for options in product(*places.values()):
            ask({place: option for (place, all_), option in zip(places.items(), options, strict=True) if option != all_[0]})
    else:
        for kind in turned_kinds(places):
            ask(kind)
        if len(turned_places(places)) + len(known) <= most:
            ask(solve(places, ask, pairs=len(turned_places(places)) + len(pairs_of(places)) + len(known) <= most))
    best = min(known, key=lambda key: (known[key], len(key)))
    if known[best] >= WORTH * base:
        return {}, base
    return dict(best), known[best]


def pairs_of(places: Places) -> list[Choices]:
    """Neighbours in the order of the passes, both turned."""
    names = list(places)
    return [{first: one, second: other} for first, second in pairwise(names) for one in places[first][1:] for other in places[second][1:]]


def solve(places: Places, ask: Cost, pairs: bool) -> Choices:
    """The assignment whose sum of single changes, and of those of pairs beyond that, is least."""
    base = ask({})
    singles = [next(iter(choices.items())) for choices in turned_places(places)]
    single = {item: ask(dict([item])) - base for item in singles}
    together = [list(choices.items()) for choices in pairs_of(places)] if pairs else []
    extra = [ask(dict(pair)) - base - sum(single[item] for item in pair) for pair in together]
    count = len(singles) + len(together)
    rows: list[np.ndarray] = []
    upper: list[float] = []

    def at_most(limit: float) -> np.ndarray:
        rows.append(np.zeros(count))
        upper.append(limit)
        return rows[-1]

    for place in places:  # one option a place; none of them means the default
        row = at_most(1)
        row[[index for index, (name, _) in enumerate(singles) if name == place]] = 1
    for index, pair in enumerate(together, len(singles)):  # 1 exactly where both are
        first, second = (singles.index(item) for item in pair)
        both = at_most(1)
        both[[first, second]], both[index] = 1, -1
        for one in (first, second):
            row = at_most(0)
            row[index], row[one] = 1, -1
    found = milp(
        np.array([*single.values(), *extra]),
        integrality=np.ones(count),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(np.array(rows), -inf, np.array(upper)),
    )
    return {place: option for (place, option), taken in zip(singles, found.x, strict=False) if taken > 0.5} if found.success else {}
