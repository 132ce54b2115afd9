"""A knob space: every way one rule can schedule one program, as named choices.

    Space("conv2d", knobs={"tile_w": (1, 2, 4, 7, 14), "tile_k": (1, 2)}, default={"tile_w": 14, "tile_k": 1}, apply=...)

A point, one value for each knob, is a plain dict: it prints, it diffs, it is one database row, and it outlives a TVM upgrade.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tvm.s_tir import Schedule

Array = np.ndarray[Any, np.dtype[Any]]
Value = int | str | bool
Point = Mapping[str, Value]


class CannotPack(Exception):
    """These constants have no form for this point. It is never the user's to see: such a space has a point for any."""


@dataclass(frozen=True)
class Space:
    """What a rule offers for one program. `default` is good without any search; `apply` makes the loops of one point.

    Where a point wants the constant operands in another form, `pack` makes that of them: those of one call in, in order, the new ones out.
    It may raise CannotPack at the default point, where there is another that takes any constants: `otherwise`.
    """

    rule: str
    default: Point
    apply: Callable[[Point], Schedule] = field(repr=False)
    knobs: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    pack: Callable[[Point, Sequence[Array]], list[Array]] | None = field(default=None, repr=False)
    otherwise: Point | None = None

    def __post_init__(self) -> None:
        assert self.default.keys() == self.knobs.keys(), f"{self.rule}: the default point names other knobs than the space"
        for point in (self.default, self.otherwise or self.default):
            for name, value in point.items():
                assert value in self.knobs[name], f"{self.rule}: default {name}={value} is not among {self.knobs[name]}"
