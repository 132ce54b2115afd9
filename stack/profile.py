"""Where the time of a library goes: each operator's time, share, speed, and how near it comes to what the machine can do."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from stack.library import Library
from stack.roofline import Limits
from targets.runner import Array

FALLBACK = "fallback"  # the rule that takes what no other does
SECONDS = 1.0  # that the model is profiled for, about


@dataclass(frozen=True)
class OperatorTime:
    """One operator. `share` is of the sum over all, `roofline` the least time possible over the time taken."""

    index: int
    kernel: str
    rule: str
    ms: float
    share: float
    gflops: float
    roofline: float

    @property
    def is_fallback(self) -> bool:
        return self.rule == FALLBACK


def profile(library: Library, inputs: Mapping[str, Array], limits: Limits) -> list[OperatorTime]:
    """Time every operator of `library`, in the order they run; the median of many runs."""
    library.profile(inputs)
    runs: list[Sequence[float]] = []
    started = time.perf_counter()
    while len(runs) < 5 or (time.perf_counter() - started < SECONDS and len(runs) < 200):
        runs.append(library.profile(inputs))
    seconds = [median(times) for times in zip(*runs, strict=True)]
    total = sum(seconds) or 1.0
    return [
        OperatorTime(
            index=index,
            kernel=entry["kernel"],
            rule=entry["rule"],
            ms=1e3 * spent,
            share=spent / total,
            gflops=entry["flops"] / spent / 1e9 if spent else 0.0,
            roofline=limits.seconds(entry["flops"], entry["bytes"]) / spent if spent else 0.0,
        )
        for index, (entry, spent) in enumerate(zip(library.manifest["operators"], seconds, strict=True))
    ]
