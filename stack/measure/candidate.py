"""What travels between the processes that build candidates and those that measure them: data only, and no import of TVM.

Arrays lie in files, which both sides map: on one machine nothing is copied through a pipe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
ONE_STEP = 1e-3  # of what is rounded may be so the other way, where floats were summed or multiplied in another order
STEP = 1 / 127  # of the largest value: what a byte's step stands for at most, where values are rounded to bytes on the way
TOLERANCE = {"bf16": 2e-2, "float16": 1e-2, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Argument:
    """One parameter of a kernel. `role` is input, constant or output; `file` has its bytes, of an output those that are right."""

    role: str
    shape: tuple[int, ...]
    dtype: str
    file: Path

    @property
    def bytes(self) -> int:
        return prod(self.shape) * storage(self.dtype).itemsize

    def read(self) -> Array:
        """Its bytes, mapped; of an empty tensor, which nothing can map, none."""
        if not self.bytes:
            return np.empty(self.shape, storage(self.dtype))
        return np.memmap(self.file, storage(self.dtype), "r", shape=tuple(self.shape))


@dataclass(frozen=True)
class Candidate:
    """One built point: the function `kernel` of `library`. `rounds` says that it rounds floats to integers."""

    library: Path
    kernel: str
    arguments: Sequence[Argument]
    precision: str
    rounds: bool


def storage(dtype: str) -> np.dtype[Any]:
    """The numpy type that holds values of `dtype`; bfloat16, which numpy lacks, as the bits it has."""
    return np.dtype({"bfloat16": "uint16"}.get(dtype, dtype))


def numbers(array: Array, dtype: str) -> Array:
    """`array` as float64, whatever holds it."""
    if dtype == "bfloat16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def wrong(got: Array, expected: Array, dtype: str, precision: str, rounds: bool) -> str:
    """How an output differs from what is right, beyond what another order of sums explains; empty where it does not."""
    if not dtype.startswith(("float", "bfloat")):
        differing = np.abs(got.astype(np.int64) - expected.astype(np.int64))  # of 64-bit integers far apart this may wrap, not to 0
        worst, count = int(differing.max(initial=0)), int(np.count_nonzero(differing))
        if rounds and worst <= 1 and count <= max(1, ONE_STEP * got.size):
            return ""
        return f"{count} of {got.size} integers differ, by up to {worst}" if count else ""
    if got.dtype == expected.dtype and np.array_equal(got.reshape(-1).view(np.uint8), expected.reshape(-1).view(np.uint8)):
        return ""
    ours, right = numbers(got, dtype), numbers(expected, dtype)
    finite = np.isfinite(right)
    same = (ours == right) | (np.isnan(ours) & np.isnan(right))
    if not np.all(same | finite) or not np.all(np.isfinite(ours[finite])):
        return "infinities or NaN where the program has none, or none where it has some"
    limit = max(TOLERANCE.get(precision, 0.0), TOLERANCE.get(dtype, 1e-4))
    errors = np.abs(ours[finite] - right[finite])
    worst_error = float(np.max(errors, initial=0.0))
    largest = float(np.max(np.abs(right[finite]), initial=0.0))
    if rounds and worst_error <= STEP * largest and np.count_nonzero(errors > limit * largest) <= max(1, ONE_STEP * got.size):
        return ""
    return "" if worst_error <= limit * largest else f"off by {worst_error:.3g} where the largest value is {largest:.3g}"
