"""int16 activations and recurrent layers in integers, to the last bit."""

import numpy as np
import pytest

from relay_passes.integers.fixed_point import one_multiplier, requantize
from stack.frontends.tflite import load
from tests.frontends.tflite.build import C, Micro, T, micro, model, op
from tests.frontends.tflite.test_states import BATCH, INPUT, TIME, lstm, svdf
from tests.relay_passes.integers.host import Host, expect_same

EVERY = np.arange(-32768, 32768).astype(np.int16).reshape(1, -1)


@pytest.mark.parametrize("name", ["LOGISTIC", "TANH"])
@pytest.mark.parametrize("scale", [2.0**-12, 2.0**-11, 2.0**-15, 0.00031, 0.0017])
def test_curves_of_every_int16(name: str, scale: float) -> None:
    y = T("y", EVERY.shape, "int16", scale=2.0**-15)
    data = model(inputs=[T("x", EVERY.shape, "int16", scale=scale)], ops=[op(name, ["x"], ["y"])], tensors=[y], outputs=["y"])
    host = Host(load(data, {}).module)
    assert host.float_islands == []
    (expected,), (got,) = micro(data, [EVERY]), host.run([EVERY])
    np.testing.assert_array_equal(got, expected)
    assert len(np.unique(expected)) > 1000


def wide(name: str, x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...], axis: int, **options: object) -> bytes:
    rng = np.random.default_rng(3)
    filters = w[axis]
    scales = [float(item) for item in rng.uniform(0.005, 0.02, filters)] if name != "FULLY_CONNECTED" else 0.01
    bias_scales = [0.001 * item for item in scales] if isinstance(scales, list) else 0.001 * scales
    return model(
        inputs=[T("x", x, "int16", scale=0.001)],
        constants=[
            C("w", rng.integers(-127, 128, w, np.int8), scale=scales, axis=axis),
            C("b", rng.integers(-(1 << 17), 1 << 17, filters).astype(np.int64), scale=bias_scales),
        ],
        ops=[op(name, ["x", "w", "b"], ["y"], **options)],
        tensors=[T("y", y, "int16", scale=0.004)],
        outputs=["y"],
    )


def test_wide_convolution() -> None:
    data = wide("CONV_2D", (1, 6, 5, 3), (4, 3, 3, 3), (1, 3, 3, 4), 0, padding="SAME", stride_h=2, stride_w=2)
    expect_same(data, [((1, 6, 5, 3), "int16")])


def test_wide_depthwise() -> None:
    data = wide(
        "DEPTHWISE_CONV_2D", (1, 6, 5, 4), (1, 3, 3, 4), (1, 6, 5, 4), 3, padding="SAME", stride_h=1, stride_w=1, depth_multiplier=1
    )
    expect_same(data, [((1, 6, 5, 4), "int16")])


def test_wide_dense() -> None:
    expect_same(wide("FULLY_CONNECTED", (2, 24), (7, 24), (2, 7), 0), [((2, 24), "int16")])


@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL"])
def test_wide_arithmetic(name: str) -> None:
    shape, scales = (1, 4, 4, 3), {"x": 0.001, "z": 0.0007, "y": 0.002 if name != "MUL" else 0.01}
    tensors = {title: T(title, shape, "int16", scale=scale) for title, scale in scales.items()}
    data = model(inputs=[tensors["x"], tensors["z"]], ops=[op(name, ["x", "z"], ["y"])], tensors=[tensors["y"]], outputs=["y"])
    expect_same(data, [(shape, "int16")] * 2)


def follow(data: bytes, steps: list[np.ndarray]) -> None:
    """Step by step as TFLite Micro, each state handed on."""
    network, reference = load(data, {}), Micro(data)
    host = Host(network.module)
    assert host.float_islands == []
    states = [state.initial for state in network.states]
    seen = set()
    for step in steps:
        (expected,) = reference.run([step])
        got, *states = host.run([step, *states])
        np.testing.assert_array_equal(got.reshape(expected.shape), expected)
        seen.add(expected.tobytes())
    assert len(seen) > len(steps) // 2


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("state", ["int8", "int16"])
def test_svdf(rank: int, state: str) -> None:
    follow(svdf(rank, state), list(np.random.default_rng(5).integers(-128, 128, (12, 1, 2)).astype(np.int8)))


def near_tie() -> tuple[float, float, float, int, int]:
    """Scales of state, weights and result, a state and a weight, for which float32 and float64 factors give different results."""
    rng, weights = np.random.default_rng(0), np.arange(1, 32768)
    for _ in range(1000):
        state, time, y = (float(np.float32(rng.uniform(*bounds))) for bounds in ((0.001, 0.02), (0.0001, 0.001), (0.01, 0.3)))
        kept = int(rng.integers(100, 2000))
        sums = (weights * kept).astype(np.int32)
        single = one_multiplier(float(np.float32(state) * np.float32(time) / np.float32(y)))
        exact = requantize(sums, *one_multiplier(state * time / y))
        differ = np.flatnonzero((requantize(sums, *single) != exact) & (np.abs(exact) < 127))
        if len(differ):
            return state, time, y, kept, int(weights[differ[0]])
    raise AssertionError("no such scales")


def test_the_factors_of_svdf_have_double_precision() -> None:
    state, time, y, kept, weight = near_tie()
    x = T("x", (1, 1), "int8", scale=1.0)
    tensors = [T("s", (1, 2), "int16", scale=state, variable=True), T("y", (1, 1), "int8", scale=y)]
    constants = [
        C("f", np.array([[100]], np.int8), scale=float(np.float32(kept * state / 10000))),  # 100 in gives `kept`
        C("t", np.array([[1, weight]], np.int16), scale=time),
        C("b", np.zeros(1, np.int32), scale=state * time),
    ]
    node = op("SVDF", ["x", "f", "t", "b", "s"], ["y"], rank=1, fused_activation_function="NONE")
    follow(model([x], [node], ["y"], tensors=tensors, constants=constants), [np.array([[value]], np.int8) for value in (100, 50, 99)])


@pytest.mark.parametrize("clip", [0.0, 0.6])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_lstm(dtype: str, clip: float) -> None:
    info = np.iinfo(dtype)
    steps = np.random.default_rng(5).integers(info.min, info.max, (6, BATCH, TIME, INPUT)).astype(dtype)
    follow(lstm(dtype, clip=clip), list(steps))
