"""Decisions that do not pay where they are used: a program measured alone may be slower between its neighbours.

slower(untuned, tuned, arrays)      # -> {"conv2d_relu_3"}: kernels that take longer in the tuned library than with their defaults

Both libraries call the same kernels in the same order. They are profiled taking turns, so that whatever the machine does falls on both.
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from statistics import median

from stack.library import Library
from targets.runner import Array

SECONDS = 2.0  # of profiling, about
AT_LEAST, AT_MOST = 9, 101  # runs of each library
WORSE = 1.04  # what noise explains
NOTICED = 1e-6  # seconds a run of the model


def slower(untuned: Library, tuned: Library, arrays: Mapping[str, Array]) -> set[str]:
    """The kernels whose decision costs more than the default, all their calls together."""
    before, after = in_turns(untuned, tuned, arrays)
    return {name for name, took in after.items() if took > WORSE * before[name] and took > before[name] + NOTICED}


def in_turns(first: Library, second: Library, arrays: Mapping[str, Array]) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of each kernel in one run of either library."""
    libraries = (first, second)
    runs: tuple[list[list[float]], list[list[float]]] = ([], [])
    for library in libraries:
        library.profile(arrays)
    began = time.monotonic()
    while len(runs[0]) < AT_LEAST or (time.monotonic() - began < SECONDS and len(runs[0]) < AT_MOST):
        for library, taken in zip(libraries, runs, strict=True):
            taken.append(list(library.profile(arrays)))
    return of_kernels(first, runs[0]), of_kernels(second, runs[1])


def of_kernels(library: Library, runs: list[list[float]]) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for operator, seconds in zip(library.manifest["operators"], zip(*runs, strict=True), strict=True):
        total[operator["kernel"]] += median(seconds)
    return dict(total)
