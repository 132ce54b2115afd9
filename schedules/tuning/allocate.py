"""Which task's search the next batch belongs to: the one that makes the whole model faster soonest.

    next_task([Progress(seconds=1.2e-3, ...), ...])     ->     its index, None where no batch is expected to gain anything worth its time

A task is worth its part of the model's time times the share of it that a batch is expected to save. That share is guessed from what the
last batches saved, from what the model foretells, and from chance, which fades with every batch that saved nothing; a roofline bounds it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite

WORTH = 1e-3  # of the model's time: less than that, expected of one task, is not worth a batch
CHANCE = 0.10  # saved by a first batch that nothing is known of
MEMORY = 0.5  # of what earlier batches saved, kept from batch to batch
TRUST = 0.5  # in what the model foretells
NOISE = 1e-2  # a smaller saving is none: among many points some measure better than they are


@dataclass(frozen=True)
class Progress:
    """How far the search of one task is. Costs are those of one call, in one unit for all tasks.

    `weight` is how often the model runs it. `trend` is the share of its time that a batch saved lately, `stale` how many batches ago it
    saved anything at all. `foretold` is the lowest cost that the model expects among points not yet measured, `roofline` what no point
    can go below; both may be unknown.
    """

    weight: float
    best: float
    batches: int = 0
    trend: float = 0.0
    stale: int = 0
    foretold: float | None = None
    roofline: float = 0.0
    exhausted: bool = False

    def after(self, best: float, foretold: float | None, exhausted: bool) -> "Progress":
        """One batch later."""
        saved = max(0.0, 1 - best / self.best) if isfinite(self.best) else 0.0
        trend = saved if self.batches == 0 else MEMORY * self.trend + (1 - MEMORY) * saved
        return replace(
            self,
            best=min(best, self.best),
            batches=self.batches + 1,
            trend=trend,
            stale=0 if saved > NOISE else self.stale + 1,
            foretold=foretold,
            exhausted=exhausted,
        )

    @property
    def time(self) -> float:
        """What the model spends in this task."""
        return self.weight * self.best

    @property
    def saving(self) -> float:
        """The share of its time that the next batch is expected to save."""
        if self.exhausted:
            return 0.0
        fading = 0.5**self.stale
        expected = CHANCE * fading / (1 + self.batches) + self.trend * MEMORY
        if self.foretold is not None:
            expected = max(expected, TRUST * fading * (1 - self.foretold / self.best))
        return max(0.0, min(expected, 1 - self.roofline / self.best))


def whole(tasks: Sequence[Progress]) -> float:
    """The model's time in all tasks that have a cost yet."""
    return sum(task.time for task in tasks if isfinite(task.best))


def next_task(tasks: Sequence[Progress], worth: float = WORTH) -> int | None:
    """The task whose next batch is expected to save most of the model's time; those without any measurement come first."""
    for index, task in enumerate(tasks):
        if not isfinite(task.best) and not task.exhausted and task.batches == 0:
            return index
    total = whole(tasks)
    gains = [task.time * task.saving if isfinite(task.best) else 0.0 for task in tasks]
    if not tasks:
        return None
    best = max(range(len(tasks)), key=lambda at: (gains[at], -at))
    return best if gains[best] >= worth * total > 0 else None
