"""Division by a known scale as two products leads to the same whole numbers."""

import numpy as np

from relay_passes.bytes.fused import fused
from relay_passes.bytes.quotients import factors


def test_it_rounds_as_division_does() -> None:
    random = np.random.default_rng(0)
    for scale in np.exp(random.uniform(-12, 4, 100)).astype("float32"):
        found = factors(scale)
        assert found is not None
        halves = ((random.integers(-300, 300, 2000) + 0.5) * np.float64(scale)).astype("float32")
        x = np.concatenate([(random.uniform(-300, 300, 2000) * scale).astype("float32"), halves])
        np.testing.assert_array_equal(np.rint(fused(x, found[0], x * found[1])), np.rint(x / scale))


def test_a_power_of_two_needs_one_product() -> None:
    assert factors(np.float32(0.25)) == (np.float32(4), np.float32(0))


def test_a_scale_without_all_its_digits_is_divided_by() -> None:
    assert factors(np.float32(1e-40)) is None


def test_a_fused_product_is_rounded_once() -> None:
    a = np.asarray([1 + 2.0**-12], "float32")  # whose square lies between two float32 numbers, by less than float64 can add
    above, below = (fused(a, np.float32(a[0]), np.asarray([sign * 2.0**-80], "float32")) for sign in (1, -1))
    assert above[0] == np.float32(1 + 2.0**-11 + 2.0**-23)
    assert below[0] == np.float32(1 + 2.0**-11)
