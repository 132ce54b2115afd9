"""How fast a runner works, as data for whoever shows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Counts:
    """In `seconds` since its first candidate: how many were built and measured, the seconds of work on each, and failures by class.

    Several processes work side by side, so the seconds of work may be more than have passed.
    """

    seconds: float
    builds: int
    build_seconds: float
    measures: int
    measure_seconds: float
    failures: Mapping[str, int] = field(default_factory=dict)

    @property
    def measures_per_minute(self) -> float:
        return 60 * self.measures / self.seconds if self.seconds else 0.0
