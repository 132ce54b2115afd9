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
    source: str  # of its decision: tuned, shipped, predicted or default; empty where none was taken, and in libraries of older versions
    ms: float
    share: float
    gflops: float
    roofline: float

    @property
    def is_fallback(self) -> bool:
        return self.rule == FALLBACK


@dataclass(frozen=True)
class OperatorCount:
    """One operator of a C project. `count` is in the library's unit; `share` is of the sum over all."""

    index: int
    kernel: str
    rule: str
    shapes: str
    source: str
    count: int
    share: float
    macs: int


def count(library: Library, inputs: Mapping[str, Array]) -> list[OperatorCount]:
    """Count what every operator of a C project takes, in the order they run. One run says it: firmware does the same each time."""
    counts = [round(spent) for spent in library.profile(inputs)]
    total = sum(counts) or 1
    entries = zip(library.manifest["operators"], counts, strict=True)
    return [
        OperatorCount(index, entry["kernel"], entry["rule"], entry["shapes"], entry.get("source", ""), spent, spent / total, entry["macs"])
        for index, (entry, spent) in enumerate(entries)
    ]


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
            source=entry.get("source", ""),
            ms=1e3 * spent,
            share=spent / total,
            gflops=entry["flops"] / spent / 1e9 if spent else 0.0,
            roofline=limits.seconds(entry["flops"], entry["bytes"]) / spent if spent else 0.0,
        )
        for index, (entry, spent) in enumerate(zip(library.manifest["operators"], seconds, strict=True))
    ]
