import numpy as np
import pytest

from relay_passes.integers.fixed_point import one_multiplier, requantize
from relay_passes.integers.linear_sum import INT8, same_plane


def table(scales: tuple[float, float, float], zeros: tuple[int, int, int], low: int, high: int) -> tuple[np.ndarray, tuple[float, float]]:
    """TFLite's sums of all pairs, and the slopes."""
    first, second, out = scales
    twice = 2 * max(first, second)
    left = requantize((INT8 - zeros[0]) << 20, *one_multiplier(first / twice))
    right = requantize((INT8 - zeros[1]) << 20, *one_multiplier(second / twice))
    sums = requantize(left[:, None] + right, *one_multiplier(twice / (1 << 20) / out)) + zeros[2]
    return np.clip(sums, low, high).astype("int64"), (first / out, second / out)


@pytest.mark.parametrize("seed", range(3))
def test_mostly_a_plane_has_the_same_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(10):
        scales = rng.uniform(0.01, 0.3, 3)
        zeros, low = rng.integers(-128, 128, 3), int(rng.choice([-128, -100]))
        exact, slopes = table(tuple(scales), tuple(zeros.tolist()), low, 120)
        plane = same_plane(exact, slopes, low, 120)
        if plane is None:
            continue
        found += 1
        parts = INT8[:, None] * plane.m, INT8 * plane.n, np.array(plane.k)
        assert sum(int(np.abs(part).max()) for part in parts) < 1 << 31
        assert np.array_equal(np.clip(sum(parts) >> plane.shift, low, 120), exact)
    assert found >= 8


def test_what_is_no_plane_is_left_alone() -> None:
    exact, slopes = table((0.1, 0.2, 0.3), (0, 5, -9), -128, 127)
    assert same_plane(exact, slopes, -128, 127) is not None
    exact[130, 140] += 1
    assert same_plane(exact, slopes, -128, 127) is None
