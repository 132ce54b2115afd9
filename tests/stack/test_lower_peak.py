"""What a depthwise convolution makes larger is never whole: fused with its reader, the arena shrinks and the numbers stay."""

from pathlib import Path

import numpy as np
import pytest

import stack
from stack.samples import draw
from tests.firmware_tools import need_firmware_tools
from tests.frontends.tflite.build import C, T, micro, model, op
from tests.host_model import HostModel


def swelling(
    stride: int = 1,
    size: int = 24,
    channels: int = 6,
    multiplier: int = 4,
    kernel: int = 3,
    padding: str = "SAME",
    outputs: tuple[str, ...] = ("y",),
) -> bytes:
    """1x1 to `channels`, depthwise to `multiplier` times as many, 1x1 back, mean: int8 [1, size, size, 3] -> [1, 8]."""
    strides = {"stride_h": stride, "stride_w": stride}
    rng, wide = np.random.default_rng(0), channels * multiplier
    out = -(-size // stride) if padding == "SAME" else (size - kernel) // stride + 1

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(-127, 128, shape, np.int8)

    def bias(count: int) -> np.ndarray:
        return rng.integers(-500, 500, count, np.int32)

    return model(
        inputs=[T("x", (1, size, size, 3), "int8", scale=0.05, zero_point=-5)],
        constants=[
            C("w1", weights(channels, 1, 1, 3), scale=0.01),
            C("b1", bias(channels), scale=0.0005),
            C("w2", weights(1, kernel, kernel, wide), scale=[0.01] * wide, axis=3),
            C("b2", bias(wide), scale=[0.001] * wide),
            C("w3", weights(8, 1, 1, wide), scale=0.01),
            C("b3", bias(8), scale=0.001),
            C("axes", np.array([1, 2], np.int32)),
        ],
        ops=[
            op("CONV_2D", ["x", "w1", "b1"], ["a"], padding="VALID", stride_h=1, stride_w=1, fused_activation_function="RELU"),
            op("DEPTHWISE_CONV_2D", ["a", "w2", "b2"], ["b"], padding=padding, **strides, depth_multiplier=multiplier),
            op("CONV_2D", ["b", "w3", "b3"], ["c"], padding="VALID", stride_h=1, stride_w=1),
            op("MEAN", ["c", "axes"], ["y"], keep_dims=False),
        ],
        tensors=[
            T("a", (1, size, size, channels), "int8", scale=0.1, zero_point=-100),
            T("b", (1, out, out, wide), "int8", scale=0.1, zero_point=7),
            T("c", (1, out, out, 8), "int8", scale=0.2, zero_point=-3),
            T("y", (1, 8), "int8", scale=0.05, zero_point=-3),
        ],
        outputs=outputs,
    )


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3", "cortex-m4"])
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param({}, id="3x3"),
        pytest.param({"stride": 2, "size": 25}, id="strided, rows that no band divides"),
        pytest.param({"kernel": 5, "padding": "VALID", "multiplier": 3}, id="5x5 without a border"),
    ],
)
def test_what_swells_is_never_whole(shape: dict[str, int], core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = swelling(**shape)
    library = stack.compile(data, core)
    monkeypatch.setattr("stack.lower_peak.lower_peak", lambda module, *_: module)
    plain = stack.compile(data, core)
    assert [operator["rule"] for operator in library.manifest["operators"]].count("fused_rows") == 1
    assert library.manifest["arena_bytes"] < 0.8 * plain.manifest["arena_bytes"]
    host, seen = HostModel(library, tmp_path), set()
    for seed in range(6):
        (x,) = draw(library.inputs, seed).values()
        (y,) = host(x)
        np.testing.assert_array_equal(y, micro(data, [x])[0])
        seen.add(y.tobytes())
    assert len(seen) > 3


def test_it_computes_the_same_with_helium() -> None:
    need_firmware_tools()
    data = swelling()
    library = stack.compile(data, "cortex-m55")
    assert "fused_rows" in [operator["rule"] for operator in library.manifest["operators"]]
    for seed in range(3):
        arrays = draw(library.inputs, seed)
        (y,) = library.run(arrays).values()
        np.testing.assert_array_equal(y, micro(data, list(arrays.values()))[0])


def test_nothing_is_fused_where_that_saves_nothing() -> None:
    library = stack.compile(swelling(multiplier=1, channels=8), "cortex-m4")
    assert "fused_rows" not in [operator["rule"] for operator in library.manifest["operators"]]


def test_what_the_network_returns_is_made_whole() -> None:
    library = stack.compile(swelling(outputs=("y", "b")), "cortex-m4")
    assert "fused_rows" not in [operator["rule"] for operator in library.manifest["operators"]]
    assert [tensor.shape for tensor in library.outputs] == [(1, 8), (1, 24, 24, 24)]
