"""Requantisation with one multiplication gives what two roundings give."""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.schedules.mcu import reference
from tests.schedules.mcu.plain_cases import build

SOURCE = """
static void KERNEL(const int32_t *acc, const int32_t *multiplier, const int32_t *right, int32_t *y) {
  for (int32_t i = 0; i < COUNT; i++) y[i] = NAME(acc[i], multiplier[i], 1 << (right[i] - 2), right[i] - 1);
}
"""


def cases() -> list[np.ndarray[Any, np.dtype[np.int32]]]:
    """Accumulators, multipliers, shifts to the right: random ones, ends of the ranges, and ties on either side of zero."""
    rng = np.random.default_rng(2)
    count = 20000
    acc = rng.integers(-(1 << 31), 1 << 31, count) >> rng.integers(0, 31, count)
    acc[:6] = [0, -1, 1, -(1 << 30), (1 << 30) - 1, -2]
    multiplier = rng.integers(1 << 30, 1 << 31, count)
    multiplier[: count // 4] = 1 << 30
    multiplier[count // 4 : count // 3] = rng.choice([0, (1 << 31) - 1, (1 << 30) + 1], count // 3 - count // 4)
    right = rng.integers(2, 32, count)
    acc[1000:3000] = rng.integers(-200, 200, 2000) << 3
    right[1000:3000] = rng.integers(2, 6, 2000)
    return [values.astype(np.int32) for values in (acc, multiplier, right)]


@pytest.mark.parametrize("name", ["stack_rescale_long", "stack_rescale_halves"])
def test_one_rounding_for_two(name: str, tmp_path: Path) -> None:
    acc, multiplier, right = cases()
    y = np.zeros_like(acc)
    source = SOURCE.replace("COUNT", str(acc.size)).replace("NAME", name)
    build(source, tmp_path)(*(ctypes.c_void_p(array.ctypes.data) for array in (acc, multiplier, right, y)))
    assert np.array_equal(y, reference.requantize(acc, multiplier, -right))
