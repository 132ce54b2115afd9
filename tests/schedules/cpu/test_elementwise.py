import numpy as np
import pytest
from tvm import te, topi

from schedules.machine import Machine
from tests.schedules.cpu.programs import AVX512, MACHINES, extents, floats, program, result, space


def text(function: object, machine: Machine = AVX512) -> str:
    chosen = space(function, machine)
    return chosen.apply(chosen.default).mod["main"].script()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: f"{machine.vector_bytes}-byte")
def test_a_chain_with_a_broadcast_is_one_nest(machine: Machine) -> None:
    x, b = floats(6, 5, 49), floats(6, 1, 1, seed=1)
    function = program(lambda x, b: topi.nn.relu(topi.add(x, b)), x, b)
    assert np.array_equal(result(function, x, b, machine=machine, rule="elementwise"), np.maximum(x + b, 0))
    assert text(function, machine).count(" T.writes(") == 1


def test_loops_that_every_operand_runs_through_in_order_are_fused() -> None:
    function = program(lambda x, y: topi.add(x, y), floats(2, 8, 4, 4), floats(2, 8, 4, 4))
    assert "range(T.int64(16))" in text(function)  # 256 elements, 16 lanes


@pytest.mark.parametrize("shape", [(2, 7, 8, 24), (1, 3, 5, 24), (3, 16, 17), (2, 8, 4, 4)])
def test_fused_loops_whose_vectors_run_over_rows_are_addressed_as_one(shape: tuple[int, ...]) -> None:
    """Vectors of 64 bytes or 16 floats, that divide neither the channels nor, in some, all elements."""
    rng = np.random.default_rng(0)
    x, y = (rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    function = program(lambda x, y: topi.add(topi.cast(x, "float32"), topi.cast(y, "float32")), x, y)
    assert np.array_equal(result(function, x, y, rule="elementwise"), x.astype("float32") + y)
    assert np.array_equal(result(program(topi.maximum, x, y), x, y, rule="elementwise"), np.maximum(x, y))


def test_a_vector_over_the_ends_of_rows_is_one_load() -> None:
    x = np.zeros((2, 7, 8, 24), np.uint8)
    found = text(program(topi.maximum, x, x))
    assert "vectorized(T.int64(64))" in found
    assert "x0[T.int64(0), T.int64(0), T.int64(0), whole]" in found
    plain = text(program(lambda x, b: topi.maximum(x, b), x, np.zeros(24, np.uint8)))  # loops that are not fused stay as they are
    assert "whole" not in plain


def test_a_transpose_is_tiled_both_ways() -> None:
    x = floats(70, 100)
    function = program(topi.transpose, x)
    assert np.array_equal(result(function, x, rule="elementwise"), x.T)
    assert extents(text(function), "vectorized")


def test_a_reshape_between_transposes_splits_the_loop_it_takes_apart() -> None:
    x = floats(1, 6, 32, 64)  # heads back to rows, as after attention
    function = program(lambda x: topi.reshape(topi.transpose(x, (0, 2, 1, 3)), (32, 384)), x)
    assert np.array_equal(result(function, x, rule="elementwise"), x.transpose(0, 2, 1, 3).reshape(32, 384))
    assert "T.grid(T.int64(192), T.int64(4))" in text(function)  # rows x heads, and vectors in a head


@pytest.mark.parametrize("widths", [(64, 40), (13, 40), (1, 3)])
def test_concatenation_along_the_innermost_axis(widths: tuple[int, int]) -> None:
    x, y = floats(9, widths[0]), floats(9, widths[1], seed=1)
    assert np.array_equal(result(program(lambda x, y: topi.concatenate([x, y], 1), x, y), x, y), np.concatenate([x, y], 1))


def test_concatenation_of_channels_keeps_the_condition_out_of_the_vector() -> None:
    x, y = floats(1, 8, 6, 6), floats(1, 4, 6, 6, seed=1)
    function = program(lambda x, y: topi.concatenate([x, y], 1), x, y)
    assert np.array_equal(result(function, x, y), np.concatenate([x, y], 1))
    assert "T.int64(12)" in text(function)  # channels are a loop of their own, height and width are one


def test_padding() -> None:
    x = floats(3, 20, 30)
    assert np.array_equal(result(program(lambda x: topi.nn.pad(x, [0, 1, 1], [0, 1, 2]), x), x), np.pad(x, [(0, 0), (1, 1), (1, 2)]))


def test_rows_looked_up_in_a_table() -> None:
    table, rows = floats(50, 33), np.array([3, 49, 0, 3], np.int64)
    gather = program(lambda table, rows: te.compute((4, 33), lambda i, j: table[rows[i], j]), table, rows)
    assert np.array_equal(result(gather, table, rows), table[rows])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "float16", "float64"])
def test_other_types(dtype: str) -> None:
    x = np.arange(-80, 81).astype(dtype).reshape(7, 23)
    assert np.array_equal(result(program(lambda x: topi.add(x, x), x), x), x + x)


def test_two_threads_share_what_is_worth_it_and_only_that() -> None:
    x = floats(300, 301)
    large, small = program(topi.exp, x), program(topi.exp, floats(10, 10))
    assert extents(text(large), "parallel")
    assert not extents(text(small), "parallel")
    assert np.allclose(result(large, x, threads=2), np.exp(x), rtol=1e-6)


def test_one_core_gets_no_parallel_loop() -> None:
    function = program(topi.exp, floats(300, 301))
    assert not extents(text(function, Machine(cores=1, vector_bytes=64)), "parallel")


def test_every_point_computes_the_same() -> None:
    x, b = floats(8, 1024), floats(1, 1024, seed=1)
    function = program(lambda x, b: topi.nn.relu(topi.add(x, b)), x, b)
    knobs = space(function).knobs
    assert len(knobs["vectors"]) > 1
    for vectors in knobs["vectors"]:
        point = {"vectors": vectors}
        assert np.array_equal(result(function, x, b, point=point, threads=2), np.maximum(x + b, 0))
        assert text_of(function, point).count("T.unroll(") == (vectors > 1)


def test_what_takes_less_than_a_microsecond_has_one_point() -> None:
    x, b = floats(2, 1024), floats(1, 1024, seed=1)
    assert space(program(lambda x, b: topi.nn.relu(topi.add(x, b)), x, b)).size == 1


def text_of(function: object, point: dict[str, bool | int]) -> str:
    return space(function).apply(point).mod["main"].script()
