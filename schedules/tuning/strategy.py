"""Which task and which points to try next.

`Random` draws points evenly and shares trials by what each task costs the model: a floor that anything learned has to beat.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from schedules.space import Point, Space, Value
from schedules.tuning.database import Record, text_of
from schedules.tuning.rounds import State

PATIENCE = 48  # trials in a row without a better point, after which a task is left alone


class Random:
    """A Strategy without a model."""

    def __init__(self, seed: int, state: Mapping[str, Any] | None = None) -> None:
        """`state` is what `random_state` said, so that a run goes on as it would have."""
        self.random = np.random.default_rng(seed)
        if state:
            self.random.bit_generator.state = dict(state)

    def random_state(self) -> dict[str, Any]:
        return dict(self.random.bit_generator.state)

    def pick(self, states: Sequence[State], waiting: Mapping[str, int], left: int) -> State | None:
        def worth(state: State) -> float:
            return state.weight * (state.cost or 0.0) / (1 + state.barren + waiting.get(state.key, 0))

        return max((state for state in states if state.barren < PATIENCE), key=worth, default=None)

    def propose(self, state: State, count: int) -> list[Point]:
        space = state.work.task.space
        found: dict[str, Point] = {}
        for point in every(space) if space.size <= 4096 else (self.draw(space) for _ in range(64 * count)):
            text = text_of(point)
            if text not in state.tried and text not in found and space.holds(point):
                found[text] = point
        points = list(found.values())
        chosen = self.random.choice(len(points), min(count, len(points)), replace=False)
        return [points[index] for index in chosen]

    def draw(self, space: Space) -> Point:
        return {name: values[int(self.random.integers(len(values)))] for name, values in space.knobs.items()}

    def learn(self, state: State, records: Sequence[Record]) -> None:
        pass


def every(space: Space) -> list[Point]:
    """All points, the ones that are not legal included."""
    points: list[dict[str, Value]] = [{}]
    for name, values in space.knobs.items():
        points = [{**point, name: value} for point in points for value in values]
    return list(points)
