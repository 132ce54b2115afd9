"""Which points of one space to measure next: the promising ones by the model, the uncertain ones, and some that are merely different.

    search = Search(space, seed=0, known=[points of other programs that were good])
    while batch := search.propose(16, rank):        [] once every legal point was proposed
        for point, cost in measured(batch): search.record(point, cost)

The first batch begins with the default and with `known`, moved into this space. Small spaces are ranked whole; of large ones, an
evolution ranks about a thousand: the best points measured, changed in one or two knobs by a step, or crossed. No point is proposed twice,
and none that was recorded, whoever measured it. `state` is JSON; `Search.restore` goes on where it was made, with the points that were
proposed and not recorded first.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, product
from math import inf
from typing import Any

import numpy as np

from schedules.space import Point, Space, Value
from schedules.tuning.cost_model import Ranking

Rank = Callable[[Sequence[Point]], Ranking]
Key = tuple[Value, ...]

COUNTABLE = 1 << 16  # points that are enumerated at most
RANKED = 2048  # candidates that are ranked for one batch
GENERATIONS, POPULATION, PARENTS = 3, 256, 32
DIFFERENT = 0.15  # the share of a batch that the model has no say in
CURIOSITY = 0.5  # what a standard deviation among the members of the model is worth


class Search:
    """The state of one program's search: what was proposed, what was measured, and a source of chance."""

    def __init__(self, space: Space, seed: int = 0, known: Sequence[Point] = ()) -> None:
        self.space = space
        self.names = list(space.knobs)
        self.chance = np.random.default_rng(seed)
        self.measured: dict[Key, float] = {}
        self.proposed: dict[Key, None] = {}  # in order
        self.waiting: list[Key] = []  # to be proposed before all others
        for point in (space.default, *(nearest(space, point) for point in known)):
            if point is not None and self.key(point) not in self.waiting:
                self.waiting.append(self.key(point))
        self.all: list[Key] | None = list(self.enumerate()) if space.size <= COUNTABLE else None
        self.exhausted = False

    def key(self, point: Point) -> Key:
        return tuple(point[name] for name in self.names)

    def point(self, key: Key) -> dict[str, Value]:
        return dict(zip(self.names, key, strict=True))

    def legal(self, key: Key) -> bool:
        return self.space.legal(self.point(key))

    def enumerate(self) -> Iterator[Key]:
        return (key for key in product(*self.space.knobs.values()) if self.legal(key))

    def new(self, key: Key) -> bool:
        return key not in self.proposed and key not in self.measured

    @property
    def left(self) -> int | None:
        """How many points nobody has proposed yet; None where they are too many to count."""
        return None if self.all is None else sum(map(self.new, self.all))

    def record(self, point: Point, cost: float) -> None:
        """A measurement, also one of another session; infinite where the point failed."""
        self.measured[self.key(point)] = cost

    def propose(self, count: int, rank: Rank) -> list[dict[str, Value]]:
        """Up to `count` points that are worth measuring, the most promising first; none where every one was proposed."""
        batch = [key for key in dict.fromkeys(self.waiting) if self.new(key)][:count]
        self.waiting = [key for key in self.waiting if key not in batch]
        chosen = set(batch)
        candidates = [key for key in self.candidates(rank) if key not in chosen]
        if candidates and len(batch) < count:
            ranking = rank([self.point(key) for key in candidates])
            order = np.argsort(-(ranking.scores + CURIOSITY * ranking.uncertainty), kind="stable")
            different = self.share(count - len(batch))
            promising = [candidates[at] for at in order[: count - len(batch) - different]]
            batch += promising
            taken = set(promising)
            batch += self.farthest([key for key in candidates if key not in taken], batch, count - len(batch))
        self.proposed.update(dict.fromkeys(batch))
        self.exhausted = not batch
        return [self.point(key) for key in batch]

    def share(self, count: int) -> int:
        """How many of `count` shall be different: a whole number that is right on average."""
        return int(DIFFERENT * count + self.chance.random())

    def candidates(self, rank: Rank) -> list[Key]:
        """Points to choose from, none of them proposed before."""
        if self.all is not None:
            self.all = [key for key in self.all if self.new(key)]
            if len(self.all) <= RANKED:
                return list(self.all)
        found = dict.fromkeys(key for key in self.drawn(RANKED // 4) if self.new(key))
        good = [key for key, cost in sorted(self.measured.items(), key=lambda entry: entry[1]) if cost < inf and self.fits(key)]
        population = good[:PARENTS] + list(found)[:POPULATION]
        for _ in range(GENERATIONS):
            if not population:
                break
            children = dict.fromkeys(key for key in (self.child(population) for _ in range(POPULATION)) if self.legal(key))
            found.update(dict.fromkeys(key for key in children if self.new(key)))
            ranked = list(dict.fromkeys([*children, *population]))
            scores = rank([self.point(key) for key in ranked]).scores
            population = [ranked[at] for at in np.argsort(-scores, kind="stable")[: POPULATION // 4]]
        return list(found)

    def fits(self, key: Key) -> bool:
        return self.space.holds(self.point(key))

    def drawn(self, count: int) -> list[Key]:
        """Legal points drawn by chance."""
        if self.all is not None:
            return [self.all[int(at)] for at in self.chance.permutation(len(self.all))[:count]]
        columns = [[values[at] for at in self.chance.integers(len(values), size=4 * count)] for values in self.space.knobs.values()]
        return list(islice(filter(self.legal, zip(*columns, strict=True)), count))

    def any(self, values: Sequence[Value]) -> Value:
        return values[int(self.chance.integers(len(values)))]

    def child(self, population: Sequence[Key]) -> Key:
        """Of one parent, with one or two knobs a step further; of two, with each knob from either."""
        parent = population[int(self.chance.integers(len(population)))]
        if self.chance.random() < 0.3:
            other = population[int(self.chance.integers(len(population)))]
            return tuple(theirs if self.chance.random() < 0.5 else ours for ours, theirs in zip(parent, other, strict=True))
        values = list(parent)
        for _ in range(1 if self.chance.random() < 0.6 else 2):
            at = int(self.chance.integers(len(values)))
            values[at] = self.neighbour(self.names[at], values[at])
        return tuple(values)

    def neighbour(self, name: str, value: Value) -> Value:
        """The next larger or smaller number; another text or truth value."""
        values = self.space.knobs[name]
        if isinstance(value, str | bool):
            return self.any(values)
        at = list(values).index(value) + (1 if self.chance.random() < 0.5 else -1)
        return values[min(max(at, 0), len(values) - 1)]

    def farthest(self, candidates: Sequence[Key], taken: Sequence[Key], count: int) -> list[Key]:
        """`count` of `candidates`, one after the other the one that is least like all that were measured or are about to be."""
        if count <= 0 or not candidates:
            return []
        some = [candidates[int(at)] for at in self.chance.permutation(len(candidates))[:POPULATION]]
        known = [key for key in (*self.measured, *self.proposed, *taken) if self.fits(key)]
        places = self.places(some)
        away = np.full(len(some), np.inf)
        if known:
            away = np.min([np.abs(places - place).sum(axis=1) for place in self.places(known)], axis=0)
        result = []
        for _ in range(min(count, len(some))):
            at = int(np.argmax(away))
            result.append(some[at])
            away = np.minimum(away, np.abs(places - places[at]).sum(axis=1))
            away[at] = -1
        return result

    def places(self, keys: Sequence[Key]) -> Any:
        """Each point in a cube: how far along its knob's values each value is."""
        along = [{value: at / max(1, len(values) - 1) for at, value in enumerate(values)} for values in self.space.knobs.values()]
        return np.array([[steps[value] for steps, value in zip(along, key, strict=True)] for key in keys])

    def state(self) -> dict[str, Any]:
        """All that a restart needs, as JSON."""
        return {
            "chance": self.chance.bit_generator.state,
            "proposed": [self.point(key) for key in self.proposed],
            "waiting": [self.point(key) for key in self.waiting],
            "measured": [[self.point(key), cost if cost < inf else None] for key, cost in self.measured.items()],
        }

    @classmethod
    def restore(cls, space: Space, state: Mapping[str, Any]) -> "Search":
        """The search that `state` was made of. Points of a space that has changed since are forgotten."""
        search = cls(space)
        search.chance.bit_generator.state = state["chance"]
        for point, cost in state["measured"]:
            if space.holds(point):
                search.record(point, inf if cost is None else cost)
        proposed = [search.key(point) for point in state["proposed"] if space.holds(point)]
        lost = [key for key in proposed if key not in search.measured]
        search.proposed = dict.fromkeys(key for key in proposed if key in search.measured)
        search.waiting = lost + [search.key(point) for point in state["waiting"] if space.holds(point)]
        return search


def nearest(space: Space, point: Point) -> dict[str, Value] | None:
    """What is closest to another program's `point` in `space`; None where they have too little in common."""
    if point.keys() != space.knobs.keys():
        return None
    moved: dict[str, Value] = {}
    for name, values in space.knobs.items():
        value = point[name]
        if value in values:
            moved[name] = value
        elif isinstance(value, str | bool):
            return None
        else:
            moved[name] = min(
                (other for other in values if not isinstance(other, str)), key=lambda other: abs(np.log2(max(other, 1) / max(value, 1)))
            )
    return moved if space.legal(moved) else None
