"""How well a ranking foretells measurements of programs it never saw.

pairwise    of all pairs that were told apart, the share that is ranked the right way round: costs differ by more than 2 %, and what
            lies between the quartiles of one is not between those of the other
first       best measured cost / cost of the point ranked first
of_eight    best measured cost / best cost among the eight ranked first
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from schedules.tuning.features import Table

NOISE = 0.02
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Measured:
    """Points of one program on one device. `costs` are infinite where a point failed, `spreads` lie between the quartiles of each where
    that is known; `whole` is the model it is from, `name` its own."""

    group: str
    table: Table
    costs: Floats
    whole: str = ""
    name: str = ""
    spreads: Floats | None = None


@dataclass(frozen=True)
class Quality:
    """Of the ranking of one program's points; `pairs` is how many pairs counted."""

    pairwise: float
    first: float
    of_eight: float
    pairs: int
    group: str = ""
    whole: str = ""
    name: str = ""


def quality(scores: Floats, costs: Floats, group: str = "", whole: str = "", name: str = "", spreads: Floats | None = None) -> Quality:
    """Of `scores`, higher is better, for points that were measured at `costs`; what failed counts as worse than all others."""
    a, b = np.triu_indices(len(costs), 1)
    both = np.isfinite(costs[a]) | np.isfinite(costs[b])
    a, b = a[both], b[both]
    with np.errstate(invalid="ignore"):
        apart = np.abs(costs[a] - costs[b]) > NOISE * np.minimum(costs[a], costs[b])
        if spreads is not None:
            apart &= np.abs(costs[a] - costs[b]) > (spreads[a] + spreads[b]) / 2
    a, b = a[apart], b[apart]
    right = (scores[a] > scores[b]) == (costs[a] < costs[b])
    order = np.argsort(-scores, kind="stable")
    best = float(np.min(costs))
    return Quality(
        pairwise=float(right.mean()) if len(a) else 1.0,
        first=best / float(costs[order[0]]),
        of_eight=best / float(np.min(costs[order[:8]])),
        pairs=len(a),
        group=group,
        whole=whole,
        name=name,
    )


def leave_one_out(
    groups: Sequence[Measured],
    train: Callable[[Sequence[Measured]], Callable[[Table], Floats]],
    label: Callable[[Measured], str] = lambda group: group.whole,
) -> list[Quality]:
    """Rank each label's programs by what `train` makes of the others', less programs that both have; without a success, none counts."""
    useful = [group for group in groups if np.isfinite(group.costs).any() and len(group.costs) > 1]
    found = []
    for out in dict.fromkeys(map(label, useful)):
        tested = [group for group in useful if label(group) == out]
        names = {group.group for group in tested}
        others = [group for group in useful if label(group) != out and group.group not in names]
        if not others:
            continue
        scores = train(others)
        found += [quality(scores(each.table), each.costs, each.group, each.whole, each.name, each.spreads) for each in tested]
    return found


def mean(qualities: Sequence[Quality]) -> dict[str, float]:
    """Of several programs: of all their pairs, the share in the right order; of the others, in which each program counts the same."""
    if not qualities:
        return dict.fromkeys(("pairwise", "first", "of_eight"), 0.0)
    pairs = sum(one.pairs for one in qualities)
    right = sum(one.pairwise * one.pairs for one in qualities)
    return {
        "pairwise": right / pairs if pairs else 1.0,
        "first": fmean(one.first for one in qualities),
        "of_eight": fmean(one.of_eight for one in qualities),
    }
