"""Real sums of bytes as two fused operations lead to the same bytes, for every pair of them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import stack
from relay_passes.bytes.planes import MOST, plane
from relay_passes.integers.island import Quantization
from targets.x86.detect import cpu_flags

ON_BYTES = pytest.mark.skipif("avx512_vnni" not in cpu_flags(), reason="this CPU has no AVX512-VNNI")
EVERY = np.arange(256, dtype=np.uint8)
LEFT, RIGHT = (grid.reshape(1, 16, 64, 64) for grid in np.meshgrid(EVERY, EVERY, indexing="ij"))


def quantization(scale: float, zero: int) -> Quantization:
    return Quantization(np.asarray([scale], "float32"), np.asarray([zero]), 0, "uint8")


def written(a: Quantization, b: Quantization, output: Quantization) -> np.ndarray:
    """Every product, the sum and the quotient rounded one by one, as ONNX says."""
    first, second = ((values.astype("int32") - x.one_zero).astype("float32") * x.scale[0] for values, x in ((LEFT, a), (RIGHT, b)))
    return np.clip(np.rint((first + second) / output.scale[0]) + output.one_zero, 0, 255).astype("uint8")


def network(a: Quantization, b: Quantization, output: Quantization, relu: bool) -> onnx.ModelProto:
    """Sum of two inputs in bytes, perhaps a rectifier, to bytes."""
    arrays = {
        f"{name}{part}": value
        for name, x in zip("abc", (a, b, output), strict=True)
        for part, value in (("s", x.scale[0]), ("z", np.uint8(x.one_zero)))
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "as", "az"], ["ra"]),
        helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["rb"]),
        helper.make_node("Sum", ["ra", "rb"], ["sum"]),
        *([helper.make_node("Relu", ["sum"], ["limited"])] if relu else []),
        helper.make_node("QuantizeLinear", ["limited" if relu else "sum", "cs", "cz"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, LEFT.shape) for name in "ab"],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, LEFT.shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def drawn(seed: int) -> tuple[Quantization, Quantization, Quantization]:
    rng = np.random.default_rng(seed)
    unit = float(rng.uniform(0.01, 0.1))
    a, b = (quantization(unit * float(rng.uniform(0.3, 1.2)), int(rng.integers(0, 256))) for _ in range(2))
    return a, b, quantization(unit, int(rng.integers(0, 256)))


@pytest.mark.parametrize("seed", range(20))
def test_scales_of_real_networks_have_a_plane(seed: int) -> None:
    assert plane(*drawn(seed)) is not None


@ON_BYTES
@pytest.mark.parametrize("seed", range(3))
def test_every_pair_of_bytes(seed: int) -> None:
    a, b, output = drawn(seed)
    library = stack.compile(network(a, b, output, relu=False), target="x86-avx512-vnni")
    np.testing.assert_array_equal(library.run({"a": LEFT, "b": RIGHT})["y"], written(a, b, output))


@ON_BYTES
def test_every_pair_of_bytes_behind_a_rectifier() -> None:
    a, b, _ = drawn(5)
    output = quantization(0.06, 0)
    library = stack.compile(network(a, b, output, relu=True), target="x86-avx512-vnni")
    np.testing.assert_array_equal(library.run({"a": LEFT, "b": RIGHT})["y"], written(a, b, output))


@ON_BYTES
def test_scales_in_a_whole_ratio_keep_their_sum() -> None:
    """Half of all pairs lie halfway between two bytes, and are rounded to the even one."""
    a, output = quantization(0.025, 0), quantization(0.05, 0)
    assert plane(a, a, output) is None
    ties = written(a, a, output)
    assert np.count_nonzero((LEFT.astype(int) + RIGHT) % 2) > MOST
    library = stack.compile(network(a, a, output, relu=True), target="x86-avx512-vnni")
    np.testing.assert_array_equal(library.run({"a": LEFT, "b": RIGHT})["y"], ties)


def test_scales_far_apart_keep_their_sum() -> None:
    assert plane(quantization(1e30, 0), quantization(1.0, 0), quantization(1e-30, 0)) is None
