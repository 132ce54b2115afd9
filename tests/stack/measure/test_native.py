"""How often a candidate is called, and what its caches hold: the parts of a measurement that need no kernel."""

import math
from pathlib import Path

import numpy as np
import pytest

from stack.measure.candidate import Argument, wrong
from stack.measure.native import AT_MOST, Buffers, settle


def steady(seconds: float, calls: list[int]) -> object:
    def call(_first: int, runs: int) -> list[float]:
        calls.append(runs)
        return [seconds] * runs

    return call


def test_a_steady_kernel_settles_soon() -> None:
    calls: list[int] = []
    timed = settle(steady(1e-3, calls), math.inf)
    assert (timed.cost, timed.spread, timed.settled) == (1e-3, 0.0, True)
    assert sum(calls) < 20


def test_a_hopeless_one_is_called_three_times() -> None:
    calls: list[int] = []
    timed = settle(steady(1e-3, calls), 0.5e-3)
    assert (timed.cost, timed.settled, calls) == (1e-3, False, [3])


@pytest.mark.parametrize(("best", "most"), [(math.inf, AT_MOST[True]), (2e-3, AT_MOST[True]), (0.9e-3, AT_MOST[False])])
def test_a_noisy_one_is_called_more_often_where_it_matters(best: float, most: float) -> None:
    rng, spent = np.random.default_rng(0), []

    def call(_first: int, runs: int) -> list[float]:
        spent.append(runs)
        return list(1e-3 + np.abs(rng.normal(0, 1e-3, runs)))

    timed = settle(call, best)
    assert timed.settled
    assert timed.spread > 0
    assert 0.5 * most < sum(spent) * 1e-3 < 1.5 * most


def test_calls_that_were_interrupted_do_not_count() -> None:
    def call(_first: int, runs: int) -> list[float]:
        return [-1.0, 2e-3, *[2e-3] * (runs - 2)][:runs]

    assert settle(call, math.inf).cost == 2e-3


def test_one_whose_later_calls_are_all_interrupted_has_the_cost_of_the_first() -> None:
    def call(first: int, runs: int) -> list[float]:
        return [2e-3 if first + run < 2 else -1.0 for run in range(runs)]

    assert settle(call, math.inf).cost == 2e-3


def argument(folder: Path, role: str, count: int) -> Argument:
    file = folder / f"{role}{count}"
    np.arange(count, dtype=np.float32).tofile(file)
    return Argument(role, (count,), "float32", file)


def test_constants_take_turns_until_the_private_caches_hold_others(tmp_path: Path) -> None:
    arguments = [argument(tmp_path, "input", 100), argument(tmp_path, "constant", 1000), argument(tmp_path, "output", 100)]
    buffers = Buffers(private=10_000)
    buffers.place(arguments)
    assert buffers.sets == 5  # of 4000 bytes, in 20000
    table = np.array(list(buffers.table)).reshape(5, 32)
    assert len(set(table[:, 0])) == 1
    assert len(set(table[:, 1])) == 5
    assert not (table % 64).any()
    for copy in buffers.arrays[arguments[1]]:
        assert np.array_equal(copy, np.arange(1000))


def test_large_and_tiny_constants_are_there_once(tmp_path: Path) -> None:
    buffers = Buffers(private=10_000)
    for count in (10, 10_000):
        buffers.place([argument(tmp_path, "constant", count), argument(tmp_path, "output", 10)])
        assert buffers.sets == 1


def test_what_the_next_candidate_shares_stays(tmp_path: Path) -> None:
    image, weight, output = argument(tmp_path, "input", 100), argument(tmp_path, "constant", 1000), argument(tmp_path, "output", 100)
    buffers = Buffers(private=1000)
    buffers.place([image, weight, output])
    there = buffers.arrays[image][0]
    buffers.place([image, argument(tmp_path, "constant", 2000), output])
    assert buffers.arrays[image][0] is there
    assert weight not in buffers.arrays


def test_floats_may_differ_by_what_another_order_of_sums_explains() -> None:
    right = np.array([1.0, -100.0, np.inf, np.nan], np.float32)
    assert not wrong(right + np.float32(0.005), right, "float32", "f32", False)
    assert wrong(right + np.float32(0.02), right, "float32", "f32", False) == "off by 0.02 where the largest value is 100"
    assert not wrong(right + np.float32(0.02), right, "float32", "bf16", False)
    assert "NaN" in wrong(np.nan_to_num(right), right, "float32", "f32", True)
    assert "NaN" in wrong(np.full(4, np.nan, np.float32), right, "float32", "f32", True)


def test_floats_that_were_rounded_to_bytes_may_now_and_then_be_a_step_apart() -> None:
    right = np.arange(-128, 128, dtype=np.float32).repeat(20)
    near, far = right.copy(), right.copy()
    near[7] += 1
    far[7] += 2
    assert wrong(near, right, "float32", "f32", False)
    assert not wrong(near, right, "float32", "f32", True)
    assert wrong(far, right, "float32", "f32", True)
    assert wrong(right + 1, right, "float32", "f32", True)


def test_integers_are_exact_unless_they_are_rounded_floats() -> None:
    right = np.arange(4000, dtype=np.int32)
    near, far = right.copy(), right.copy()
    near[7] += 1
    far[7] += 2
    assert not wrong(right, right, "int32", "f32", False)
    assert wrong(near, right, "int32", "f32", False) == "1 of 4000 integers differ, by up to 1"
    assert not wrong(near, right, "int32", "f32", True)
    assert wrong(far, right, "int32", "f32", True)
    assert wrong(right + 1, right, "int32", "f32", True)


def test_bfloat16_is_compared_as_numbers() -> None:
    right = np.array([0x3F80, 0x4000], np.uint16)  # 1 and 2
    assert not wrong(np.array([0x3F81, 0x4000], np.uint16), right, "bfloat16", "f32", True)
    assert wrong(np.array([0x4040, 0x4000], np.uint16), right, "bfloat16", "f32", True)
