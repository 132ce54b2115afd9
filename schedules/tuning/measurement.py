"""What a measurement is asked for, what it says, and what makes one: data only, so that it travels to other processes and machines."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, Protocol

from schedules.space import Array, Point

Failure = Literal["does not build", "wrong result", "timed out", "crashed", "out of memory", "device lost"]


@dataclass(frozen=True)
class Job:
    """One program on its way to a machine: everything a worker needs to try points of its space.

    `program` is TVM's JSON of a module whose only function is the program; a worker finds its space by the rules of the target's family.
    `constants` are the constant operands of one call, in order; `constant` says which parameters they are.
    """

    key: str
    name: str
    program: str = field(repr=False)
    target: str  # a name that the registry knows, or the path of a board's file
    constant: Sequence[bool]
    constants: Sequence[Array] = field(repr=False)
    precision: str = "f32"


@dataclass(frozen=True)
class Measurement:
    """What one point of one program costs on one device, or why that cannot be said.

    `cost` is the median in the runner's unit (seconds, say, or cycles), `spread` the distance between the quartiles in the same unit;
    both are infinite where it failed. A hopeless candidate is stopped early: its cost is then of few runs, and `settled` is False.
    """

    cost: float
    spread: float = 0.0
    settled: bool = True
    failure: Failure | None = None
    detail: str = ""
    device: str = ""


class Runner(Protocol):
    """Builds candidates, checks their numbers against the program's own, and measures them. Nothing a candidate does ends the runner.

    `unit` is what costs are in. `parallel` is how many candidates are worth having under way at once.
    """

    unit: str
    device: str
    parallel: int

    def submit(self, job: Job, point: Point, best: float) -> Future[Measurement]:
        """Try `point`; `best` is the cheapest so far, in the runner's unit (infinite where there is none)."""

    def close(self) -> None:
        """Stop what is under way and free the workers."""
