from collections.abc import Callable

import numpy as np
import pytest
from tvm import te, topi

from relay_passes.lower_softmax import softmax
from schedules.machine import Machine
from tests.schedules.cpu.programs import AVX512, MACHINES, extents, floats, program, result, space


def text(function: object) -> str:
    chosen = space(function)
    return chosen.apply(chosen.default).mod["main"].script()


def softmax_reference(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: f"{machine.vector_bytes}-byte")
@pytest.mark.parametrize("length", [1, 7, 49, 64, 77, 128, 257])
def test_softmax_of_rows(length: int, machine: Machine) -> None:
    x = floats(5, length)
    y = result(program(lambda x: softmax(x, 1), x), x, machine=machine, rule="reduction")
    assert np.allclose(y, softmax_reference(x, 1), rtol=2e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_across_memory(axis: int) -> None:
    x = floats(12, 9, 40)
    y = result(program(lambda x: softmax(x, axis), x), x, rule="reduction")
    assert np.allclose(y, softmax_reference(x, axis), rtol=2e-6)


def test_softmax_of_masked_rows() -> None:
    x = floats(4, 64)
    x[:, 10:] = -np.inf
    x[1, 3:10] = -3.4e38
    y = result(program(lambda x: softmax(x, 1), x), x)
    assert np.allclose(y, softmax_reference(x, 1), rtol=2e-6)
    assert not y[:, 10:].any()


def test_all_stages_of_softmax_meet_in_one_parallel_loop_over_rows() -> None:
    script = text(program(lambda x: softmax(x, 2), floats(6, 128, 128)))
    assert extents(script, "parallel") == ["for i0_i1_fused in T.parallel(T.int64(768)):"]


SUMS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((512, 256), (0,)), ((37, 257), (1,)), ((40, 7, 7), (1, 2)), ((5000,), (0,)), ((3, 4, 5, 6), (0, 2)), ((6, 1, 48), (1,)),
    ((2, 3), (0, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "axes"), SUMS)
@pytest.mark.parametrize(("ours", "numpys"), [(topi.sum, np.sum), (topi.max, np.max), (topi.min, np.min)], ids=["sum", "max", "min"])
def test_reductions_of_any_axes(
    shape: tuple[int, ...], axes: tuple[int, ...], ours: Callable[..., te.Tensor], numpys: Callable[..., np.ndarray]
) -> None:
    x = floats(*shape)
    y = result(program(lambda x: ours(x, list(axes)), x), x, rule="reduction")
    assert np.allclose(y, numpys(x.astype(np.float64), axis=axes), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("vectors", [1, 2, 4, 8])
def test_every_point_computes_the_same(vectors: int) -> None:
    x = floats(9, 320)
    assert np.allclose(result(program(lambda x: topi.sum(x, 1), x), x, point={"vectors": vectors}), x.sum(1), rtol=1e-5, atol=1e-5)


def test_layer_norm() -> None:
    x, gain, bias = floats(3, 20, 96), floats(96, seed=1), floats(96, seed=2)
    function = program(lambda x, g, b: topi.nn.layer_norm(x, g, b, [2], 1e-5), x, gain, bias)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(2, keepdims=True)) / np.sqrt(wide.var(2, keepdims=True) + 1e-5) * gain + bias
    assert np.allclose(result(function, x, gain, bias, rule="reduction"), expected, atol=2e-5)


def test_work_ahead_of_and_behind_a_reduction_joins_it() -> None:
    x = floats(30, 508)
    function = program(lambda x: topi.multiply(topi.max(topi.tanh(x), 1), 2.0), x)
    assert np.allclose(result(function, x, rule="reduction"), 2 * np.tanh(x.astype(np.float64)).max(1), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "float64"])
def test_integers_are_exact_and_doubles_stay_doubles(dtype: str) -> None:
    x = np.arange(-1000, 1000).astype(dtype).reshape(20, 100)
    y = result(program(lambda x: topi.sum(x, 1), x), x)
    assert np.array_equal(y, x.sum(1, dtype=dtype))


def test_two_threads() -> None:
    x = floats(200, 400)
    assert np.allclose(result(program(lambda x: softmax(x, 1), x), x, threads=2), softmax_reference(x, 1), rtol=2e-6)


def test_an_index_beside_the_value_is_left_to_the_fallback() -> None:
    x = floats(32, 1000)
    function = program(lambda x: topi.argmax(x, 1), x)
    assert space(function, AVX512).rule == "fallback"
    assert np.array_equal(result(function, x), x.argmax(1))
