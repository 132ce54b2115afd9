import numpy as np
import pytest
from tvm import te, topi

from schedules.machine import Machine
from tests.schedules.cpu.programs import AVX512, MACHINES, check_nests, floats, program, result, space


def product(x: te.Tensor, y: te.Tensor, transposed: bool = False) -> te.Tensor:
    """x @ y, or x @ y^T, for each index of the axes before the last two."""
    *batch, rows, depth = (int(extent) for extent in x.shape)
    k = te.reduce_axis((0, depth), "k")

    def cell(*index: te.Tensor) -> te.Tensor:
        *b, m, n = index
        return te.sum(x[(*b, m, k)] * y[(*b, n, k) if transposed else (*b, k, n)], axis=k)

    return te.compute((*batch, rows, int(y.shape[-2 if transposed else -1])), cell, name="matmul")


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: f"{machine.vector_bytes}-byte")
@pytest.mark.parametrize(("rows", "depth", "columns"), [(128, 64, 128), (64, 64, 32), (13, 5, 16), (1, 40, 48)])
def test_heads_times_heads(rows: int, depth: int, columns: int, machine: Machine) -> None:
    x, y = floats(1, 3, rows, depth), floats(1, 3, depth, columns, seed=1)
    function = program(product, x, y)
    assert np.allclose(result(function, x, y, machine=machine, rule="batch_matmul"), x.astype(np.float64) @ y, rtol=1e-5, atol=1e-4)


def test_a_scale_is_applied_on_the_tile() -> None:
    x, y = floats(2, 24, 16), floats(2, 16, 64, seed=1)
    function = program(lambda x, y: topi.multiply(product(x, y), 0.125), x, y)
    assert np.allclose(result(function, x, y, rule="batch_matmul"), 0.125 * (x @ y), rtol=1e-5, atol=1e-4)
    chosen = space(function)
    assert chosen.apply(chosen.default).mod["main"].script().count("T.sblock_alloc_buffer") == 1


def test_every_point_computes_the_same() -> None:
    x, y = floats(2, 24, 16), floats(2, 16, 64, seed=1)
    function = program(product, x, y)
    knobs = space(function, AVX512).knobs
    for outside in knobs["columns_outside"]:
        for rows, vectors in [(knobs["tile_rows"][0], knobs["vectors"][-1]), (knobs["tile_rows"][-1], knobs["vectors"][0])]:
            point = {"tile_rows": rows, "vectors": vectors, "columns_outside": outside}
            assert np.allclose(result(function, x, y, point=point, threads=2), x @ y, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("columns", "dtype"), [(49, "float32"), (64, "int32"), (64, "float64")])
def test_odd_widths_and_other_types_go_elsewhere_and_are_right(columns: int, dtype: str) -> None:
    x, y = (10 * floats(2, 6, 8)).astype(dtype), (10 * floats(2, 8, columns, seed=1)).astype(dtype)
    function = program(product, x, y)
    assert np.allclose(result(function, x, y, rule="reduction"), x @ y, rtol=1e-5, atol=1e-3)


def test_columns_that_are_not_contiguous_are_declined() -> None:
    x, y = floats(2, 6, 8), floats(2, 64, 8, seed=1)
    function = program(lambda x, y: product(x, y, transposed=True), x, y)
    assert np.allclose(result(function, x, y, rule="reduction"), x @ y.transpose(0, 2, 1), rtol=1e-5, atol=1e-4)


def test_loops_are_described_for_many_points_at_once() -> None:
    x, y = floats(2, 24, 16), floats(2, 16, 64, seed=1)
    check_nests(space(program(product, x, y), AVX512))
