"""The loops that a schedule will have, as numbers: what the cost model looks at instead of applying the schedule.

    for ko in parallel(4): for wo in 8: for c in 64: for wi in unrolled(14): for lane in vector(16):
        acc[ko, wo, wi, lane] += x[c, wo * 14 + wi] * w[ko, c, lane]

    LoopNest(
        loops=(
            Loop("ko", 4, "parallel"), Loop("wo", 8), Loop("c", 64, reduces=True), Loop("wi", 14, "unrolled"), Loop("lane", 16, "vector"),
        ),
        operands=(
            Operand("x", 4, "read", (dim(c=1), dim(wo=14, wi=1))),
            Operand("w", 4, "read", (dim(ko=1), dim(c=1), dim(lane=1))),
            Operand("y", 4, "accumulate", (dim(ko=1), dim(wo=14, wi=1), dim(lane=1))),
        ),
        steps=...,
    )

Extents and steps may be columns, one row for each of many points: whatever is computed from a nest is computed for all of them at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Column = np.ndarray[Any, np.dtype[Any]]
Number = int | float | Column

Dim = Mapping[str, Number]  # how far an index moves when each loop takes a step; loops that do not move it are left out


def dim(**steps: Number) -> Dim:
    """One index of an operand, by the names of the loops."""
    return steps


@dataclass(frozen=True)
class Loop:
    """One loop. Unrolled and vector loops are innermost and make up the tile that is held in registers."""

    name: str
    extent: Number
    kind: Literal["serial", "parallel", "unrolled", "vector"] = "serial"
    reduces: bool = False


@dataclass(frozen=True)
class Operand:
    """One array that the body touches: read, written once, or accumulated in registers and written at the end."""

    name: str
    item_bytes: int
    role: Literal["read", "write", "accumulate"]
    dims: tuple[Dim, ...]


@dataclass(frozen=True)
class LoopNest:
    """One stage of a program, loops from the outside in. `steps` counts its innermost operations (multiply-adds, or elements).

    `numbers` is whatever else a rule knows that decides the time, by name: the instructions of a tail, the bytes of a packed copy.
    """

    loops: tuple[Loop, ...]
    operands: tuple[Operand, ...]
    steps: Number
    numbers: Mapping[str, Number] = field(default_factory=dict)
