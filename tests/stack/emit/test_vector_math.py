import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from tvm import te
from tvm.s_tir import Schedule

from tests.schedules.cpu.programs import MACHINES, aligned, run

COUNT = 1 << 16
erf = np.vectorize(math.erf, otypes=[np.float64])
REFERENCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": erf,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}
ULPS = {"exp": 1.5, "log": 1.0, "tanh": 2.0, "sigmoid": 2.5, "erf": 4.0, "rsqrt": 1.6}
CORNERS = np.array(
    [0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.2e-38, 3.4e38, -3.4e38, 88.7, 89, -87.3, -104, 1, -1, 4, -4], np.float32
)


@cache
def inputs() -> np.ndarray:
    rng = np.random.default_rng(0)
    x = aligned((COUNT,), "float32")
    x[: COUNT // 2] = rng.integers(0, 2**32, COUNT // 2, dtype=np.uint32).view(np.float32)  # every exponent alike
    x[COUNT // 2 : -COUNT // 4] = rng.uniform(-100, 100, COUNT // 4)
    x[-COUNT // 4 :] = rng.standard_normal(COUNT // 4)
    x[: len(CORNERS)] = CORNERS
    return x


def computed(name: str, x: np.ndarray, lanes: int | None) -> np.ndarray:
    data = te.placeholder(x.shape, str(x.dtype), name="x")
    out = te.compute(x.shape, lambda i: getattr(te, name)(data[i]), name="y")
    sch = Schedule(te.create_prim_func([data, out]))
    if lanes:
        _, inner = sch.split(sch.get_loops(sch.get_sblock("y"))[0], [None, lanes])
        sch.vectorize(inner)
    y = aligned(x.shape, str(x.dtype))
    run(sch.mod["main"], MACHINES[-1], x, y)
    return y


@pytest.mark.parametrize("lanes", [None, 8, 16])
@pytest.mark.parametrize("name", REFERENCES)
def test_every_float_comes_out_within_a_few_units_in_the_last_place(name: str, lanes: int | None) -> None:
    x = inputs()
    y = computed(name, x, lanes)
    with np.errstate(all="ignore"):
        wide = REFERENCES[name](x.astype(np.float64))
        expected = wide.astype(np.float32)
        normal = np.isfinite(expected) & (np.abs(expected) >= 2.0**-126)
        error = np.abs(y[normal] - wide[normal]) / np.spacing(np.abs(expected[normal]))
    assert np.array_equal(np.isnan(y), np.isnan(expected))
    assert np.array_equal(y[np.isinf(expected)], expected[np.isinf(expected)])
    assert error.max() <= ULPS[name]
    tiny = ~normal & np.isfinite(expected)
    assert np.allclose(y[tiny], expected[tiny], rtol=0, atol=2.0**-126)


def test_doubles_are_left_to_the_c_library() -> None:
    x = np.linspace(-5, 5, 64)
    assert np.allclose(computed("exp", x, 8), np.exp(x), rtol=1e-15)


def test_an_odd_function_keeps_the_sign_of_zero() -> None:
    zeros = np.array([0.0, -0.0] * 8, np.float32)
    assert np.array_equal(np.signbit(computed("erf", zeros, 16)), np.signbit(zeros))
