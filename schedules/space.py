"""A knob space: every way one rule can schedule one program, as named choices.

    Space("conv2d", knobs={"tile_w": (1, 2, 4, 7, 14), "tile_k": (1, 2)}, default={"tile_w": 14, "tile_k": 1}, apply=...)

A point, one value for each knob, is a plain dict: it prints, it diffs, it is one database row, and it outlives a TVM upgrade.

Numbers among the values are sizes, which only scale loops; texts and truth values change the structure of the loops.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from tvm.s_tir import Schedule

from schedules.loopnest import Column, LoopNest

Array = np.ndarray[Any, np.dtype[Any]]
Value = int | str | bool
Point = Mapping[str, Value]


class CannotPack(Exception):
    """These constants have no form for this point. It is never the user's to see: such a space has a point for any."""


def every_point(_point: Point) -> bool:
    return True


@dataclass(frozen=True)
class Space:
    """What a rule offers for one program. `default` is good without any search; `apply` makes the loops of one point.

    `legal` says which combinations of values are schedules at all. `nests` describes the loops of many points at once to the cost model,
    without making them: it gets each text or truth value as it is and each number as a column, one row a point, and returns the nests of
    the stages of work, most operations first. Points of one call differ in numbers only.

    Where a point wants the constant operands in another form, `pack` makes that of them: those of one call in, in order, the new ones out.
    It may raise CannotPack at the default point, where there is another that takes any constants: `otherwise`. The new ones follow the
    activations in the program that `apply` makes; where `in_place`, each takes the place of the one that it is made of.
    """

    rule: str
    default: Point
    apply: Callable[[Point], Schedule] = field(repr=False)
    knobs: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    pack: Callable[[Point, Sequence[Array]], list[Array]] | None = field(default=None, repr=False)
    otherwise: Point | None = None
    in_place: bool = False
    legal: Callable[[Point], bool] = field(default=every_point, repr=False)
    nests: Callable[[Mapping[str, str | bool | Column]], Sequence[LoopNest]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for point in (self.default, self.otherwise or self.default):
            assert self.holds(point), f"{self.rule}: its own point {dict(point)} is not in the space {dict(self.knobs)}"

    def holds(self, point: Point) -> bool:
        """Whether `point`, which may be an older one out of a database, is one of this space."""
        return point.keys() == self.knobs.keys() and all(point[name] in self.knobs[name] for name in point) and self.legal(point)

    @property
    def size(self) -> int:
        """How many points there are, the ones that are not legal included."""
        return prod(len(values) for values in self.knobs.values())
