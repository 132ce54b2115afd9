"""Functions of one int8 tensor become tables: those of TFLite Micro's integer kernels to the last bit, others as float32 gives them."""

import numpy as np
import pytest

from stack.frontends.tflite import load
from tests.frontends.tflite.build import T, micro, model, op
from tests.relay_passes.integers.host import Host

EVERY = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)
SCALES = [0.003, 0.0234375, 0.0625, 0.11, 0.5]


def one(name: str, scale: float, zero: int, y_scale: float, y_zero: int, **options: object) -> bytes:
    return model(
        inputs=[T("x", (1, 256), "int8", scale=scale, zero_point=zero)],
        ops=[op(name, ["x"], ["y"], **options)],
        tensors=[T("y", (1, 256), "int8", scale=y_scale, zero_point=y_zero)],
        outputs=["y"],
    )


def expect_every_value(data: bytes, distinct: int) -> None:
    (expected,) = micro(data, [EVERY])
    host = Host(load(data, {}).module)
    assert host.float_islands == []
    assert host.calls == ["table"]
    (got,) = host.run([EVERY])
    np.testing.assert_array_equal(got, expected)
    assert len(np.unique(expected)) >= distinct


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("zero", [-128, -7, 50])
def test_sigmoid(scale: float, zero: int) -> None:
    expect_every_value(one("LOGISTIC", scale, zero, 1 / 256, -128), 30 if scale < 0.1 else 8)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("zero", [-128, -7, 50])
def test_tanh(scale: float, zero: int) -> None:
    expect_every_value(one("TANH", scale, zero, 1 / 128, 0), 30 if scale < 0.1 else 5)


@pytest.mark.parametrize("alpha", [0.1, 0.3, -0.2, 1.5])
@pytest.mark.parametrize("scale", SCALES)
def test_leaky_relu(alpha: float, scale: float) -> None:
    expect_every_value(one("LEAKY_RELU", scale, -13, scale * 1.3, 9, alpha=alpha), 60)


@pytest.mark.parametrize("scale", [0.0234375, 0.0625, 0.11, 0.3])
@pytest.mark.parametrize("zero", [-100, -7, 50])
def test_hard_swish(scale: float, zero: int) -> None:
    expect_every_value(one("HARD_SWISH", scale, zero, scale * 0.8, -20), 40)


@pytest.mark.parametrize("name", ["ELU", "ABS"])
def test_others(name: str) -> None:
    expect_every_value(one(name, 0.02, -13, 0.02, -100), 20)


@pytest.mark.parametrize("name", ["LEAKY_RELU", "ABS"])
def test_factors_have_double_precision(name: str) -> None:
    """Scales in the ratio of whole numbers, where results lie so near to a tie that float32 factors would round some of them otherwise."""
    rng = np.random.default_rng(1)
    for _ in range(12):
        y_scale = float(np.float32(rng.uniform(0.01, 0.3)))
        scale = float(np.float32(y_scale * (2 * int(rng.integers(10, 40)) + 1) / (2 * int(rng.integers(40, 60)))))
        options = {"alpha": float(np.float32(rng.uniform(0.05, 0.9)))} if name == "LEAKY_RELU" else {}
        expect_every_value(one(name, scale, -40, y_scale, 0, **options), 30)
