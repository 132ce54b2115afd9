import numpy as np
import pytest
import tvm
from tvm import te

from relay_passes.integers import fixed_point, intrinsics

RNG = np.random.default_rng(0)
VALUES = np.concatenate([RNG.integers(-(1 << 31), 1 << 31, 500), RNG.integers(-300, 300, 500), [0, 1, -1, (1 << 31) - 1]]).astype("int32")


def exact_requantize(x: int, multiplier: int, shift: int) -> int:
    """The definition, in whole numbers of any size: two roundings, ties away from zero in the second."""
    high = (x * (1 << max(shift, 0)) * multiplier + (1 << 30)) >> 31
    right = max(-shift, 0)
    half = (1 << right) >> 1
    return (high + half) >> right if high >= 0 else -((-high + half) >> right)


@pytest.mark.parametrize("real", [1.0, 0.5, 0.75, 1 / 3, 1e-6, 123.4, 0.999999999999, 2.0**-33])
def test_multiplier_and_shift_stand_for_the_number(real: float) -> None:
    multiplier, shift = fixed_point.one_multiplier(real)
    if real < 2.0**-32:
        assert (multiplier, shift) == (0, 0)
        return
    assert 1 << 30 <= multiplier < 1 << 31
    assert multiplier / 2**31 * 2.0**shift == pytest.approx(real, rel=2**-30)


def test_a_significand_that_rounds_up_to_one_becomes_a_half() -> None:
    assert fixed_point.one_multiplier(1 - 2.0**-40) == (1 << 30, 1)


@pytest.mark.parametrize("shift", [-31, -12, -1, 0, 3])
def test_requantize_rounds_twice(shift: int) -> None:
    small = VALUES // 16 if shift > 0 else VALUES
    multiplier = 1518500250
    given = fixed_point.requantize(small, multiplier, shift)
    assert given.tolist() == [exact_requantize(int(x), multiplier, shift) for x in small]


def test_operators_of_tensorir_compute_as_their_definitions() -> None:
    x = te.placeholder((len(VALUES),), "int32", name="x")
    shifts = te.placeholder((len(VALUES),), "int32", name="shifts")
    bodies = [
        lambda i: intrinsics.requantize(x[i], 1518500250, shifts[i]),
        lambda i: intrinsics.high_mul(x[i], 715827883),
        lambda i: intrinsics.divide_by_power(x[i], shifts[i] + 31),
        lambda i: intrinsics.reciprocal(x[i] & ((1 << 31) - 1)),
    ]
    results = [te.compute(x.shape, body, name=f"y{index}") for index, body in enumerate(bodies)]
    program = te.create_prim_func([x, shifts, *results]).with_attr("global_symbol", "main")
    assert "T.stack_requantize(" in program.script()
    amounts = RNG.integers(-31, 1, len(VALUES)).astype("int32")
    tensors = [tvm.runtime.tensor(array) for array in (VALUES, amounts, *[np.zeros_like(VALUES)] * 4)]
    tvm.compile(tvm.IRModule({"main": program}), "llvm")["main"](*tensors)
    given = [tensor.numpy() for tensor in tensors[2:]]
    assert given[0].tolist() == [exact_requantize(int(v), 1518500250, int(s)) for v, s in zip(VALUES, amounts, strict=True)]
    assert given[1].tolist() == fixed_point.high_mul(VALUES, 715827883).tolist()
    assert given[2].tolist() == [
        int(fixed_point.divide_by_power(np.int32([v]), int(s + 31))[0]) for v, s in zip(VALUES, amounts, strict=True)
    ]
    whole = VALUES & 0x7FFFFFFF
    assert given[3].tolist() == fixed_point.reciprocal(whole).tolist()
    np.testing.assert_allclose(given[3] / 2**31, 1 / (1 + whole / 2**31), atol=1e-8)


def test_exponential_of_negative_numbers() -> None:
    x = -np.abs(VALUES // 2 * 2).astype("int64").clip(0, (1 << 31) - 1).astype("int32")
    np.testing.assert_allclose(fixed_point.exp_of_negative(x) / 2**31, np.exp(x / 2**26), rtol=1e-6, atol=2e-8)
    assert fixed_point.exp_of_negative(np.zeros(1, "int32"))[0] == (1 << 31) - 1


def test_limits_are_rounded_away_from_zero() -> None:
    assert fixed_point.quantize_value(6.0, 4.0, -3) == -1
    assert fixed_point.quantize_value(-6.0, 4.0, -3) == -5
