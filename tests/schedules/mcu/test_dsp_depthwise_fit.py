import numpy as np
import pytest

from schedules.mcu.dsp_depthwise_fit import SHIFT, Line, fit
from schedules.space import CannotPack
from tests.schedules.mcu.reference import requantize

NO_LINE = (564238, -520192, 524288, 1468365314, -13)  # bias, below, above, multiplier, shift


def on_line(line: Line, sums: np.ndarray) -> np.ndarray:
    acc = (sums << line.scale) + line.start
    assert np.abs(acc).max() < 1 << 31
    return np.clip((((acc * line.gain + (1 << 31)) >> 32) + line.offset) >> SHIFT, -128, 127)


@pytest.mark.parametrize("seed", range(4))
def test_the_line_has_the_steps_of_the_requantisation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(50):
        taps = rng.integers(-128, 128, rng.choice([1, 2, 9, 25]))
        below, above = int(np.minimum(-128 * taps, 127 * taps).sum()), int(np.maximum(-128 * taps, 127 * taps).sum())
        shift = -int(rng.integers(1, rng.choice([14, 32])))
        multiplier = int(rng.choice([1 << 30, (1 << 30) + 1, (1 << 31) - 1, rng.integers(1 << 30, 1 << 31)]))
        bias = int(
            rng.choice([0, rng.integers(-(2**31) + 2**20, 2**31 - 2**20), np.clip(rng.normal(0, 100) * 2.0**-shift, -(2**30), 2**30)])
        )
        low, high = [(-128, 127), (-100, 127), (-128, 90)][rng.integers(3)]
        sums = np.unique(np.append(rng.integers(below, above + 1, 4000), [below, above]))
        expected = np.clip(requantize(sums + bias, np.array(multiplier), np.array(shift)) - 128, low, high)
        line = fit(bias, below, above, multiplier, shift, -128, low, high)
        assert np.array_equal(np.clip(on_line(line, sums), low, high), expected)


def test_a_filter_that_reaches_one_value_only_is_constant() -> None:
    assert fit(1 << 30, -50, 50, 1 << 30, -3, -128, -128, 127) == Line(0, 0, 0, 127 << SHIFT)
    assert fit(7, -50, 50, 0, -3, -128, -128, 127) == Line(0, 0, 0, -128 << SHIFT)


def test_a_filter_without_a_line_is_refused() -> None:
    with pytest.raises(CannotPack, match="no line through the steps"):
        fit(*NO_LINE, -128, -128, 127)
