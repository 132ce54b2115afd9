"""How far a run of tuning has come, as data: what the display draws and callers of `stack.tune` are told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TaskRow:
    """One program. Costs are of one call, in the run's unit, None where not known yet; `least` is its roofline.

    `calls` is how often the model runs it as its graph is now; 0 where only another way of the graph passes leads to it.
    """

    key: str
    name: str
    rule: str
    calls: int
    points: int
    default: float | None
    best: float | None
    now: float | None
    least: float | None
    trials: int

    @property
    def cost(self) -> float:
        """Of all its calls."""
        return self.calls * (self.best or 0.0)

    @property
    def roofline(self) -> float | None:
        return self.least / self.best if self.least and self.best else None


@dataclass(frozen=True)
class Progress:
    """`stage` is "import", "measure", "graph" or "check". `latency` is the sum over the model's calls, `start` that of the defaults."""

    stage: str
    unit: str = "seconds"
    rows: Sequence[TaskRow] = ()
    trials: int = 0
    most_trials: int | None = None
    seconds: float = 0.0
    most_seconds: float | None = None
    made: int = 0  # trials since this process started, in `lasted` seconds
    lasted: float = 0.0
    failures: Mapping[str, int] = field(default_factory=dict)
    resumed: bool = False  # what an earlier process had left

    @property
    def latency(self) -> float:
        return sum(row.cost for row in self.rows)

    @property
    def start(self) -> float:
        return sum(row.calls * (row.default or row.best or 0.0) for row in self.rows)

    @property
    def per_minute(self) -> float:
        return 60 * self.made / self.lasted if self.lasted > 1 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the budget is used, at most."""
        ends = []
        if self.most_seconds is not None:
            ends.append(self.most_seconds - self.seconds)
        if self.most_trials is not None and self.per_minute:
            ends.append(60 * (self.most_trials - self.trials) / self.per_minute)
        return max(0.0, min(ends)) if ends else None
