import numpy as np
import pytest
import tvm
from tvm import relax, te, topi

from relay_passes.lower_matmul import divides_badly, packed_batch_matmul
from schedules.machine import Machine
from tests.schedules.cpu.programs import AVX512, MACHINES, check_nests, floats, program, result, space


def product(x: te.Tensor, y: te.Tensor, width: int = 32, tile_rows: int = 6) -> te.Tensor:
    return packed_batch_matmul(x, y, width, tile_rows)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: f"{machine.vector_bytes}-byte")
@pytest.mark.parametrize(("rows", "depth", "columns"), [(197, 16, 197), (49, 8, 49), (7, 5, 64), (1, 9, 33), (13, 77, 12)])
def test_tokens_that_nothing_divides(rows: int, depth: int, columns: int, machine: Machine) -> None:
    x, y = floats(2, 3, rows, depth), floats(2, 3, depth, columns, seed=1)
    assert np.allclose(result(program(product, x, y), x, y, machine=machine, rule="packed_batch"), x @ y, rtol=1e-5, atol=1e-4)


def test_what_follows_is_computed_on_the_tile() -> None:
    x, y = floats(2, 19, 16), floats(2, 16, 21, seed=1)
    function = program(lambda x, y: topi.nn.relu(topi.multiply(product(x, y), 0.125)), x, y)
    assert np.allclose(result(function, x, y, rule="packed_batch"), np.maximum(0.125 * (x @ y), 0), rtol=1e-5, atol=1e-4)
    chosen = space(function)
    assert chosen.apply(chosen.default).mod["main"].script().count("T.sblock_alloc_buffer") == 2  # the panels and the sums


def test_every_point_computes_the_same() -> None:
    x, y = floats(2, 23, 16), floats(2, 16, 45, seed=1)
    function = program(product, x, y)
    knobs = space(function, AVX512).knobs
    for rows in knobs["tile_rows"]:
        for outside in knobs["panels_outside"]:
            point = {"tile_rows": rows, "panels_outside": outside}
            assert np.allclose(result(function, x, y, point=point, threads=2), x @ y, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("left", "right", "dtype", "badly"),
    [
        ((2, 197, 64), (2, 64, 197), "float32", True),
        ((2, 197, 64), (2, 64, 64), "float32", True),  # whole vectors, but 197 rows are prime
        ((2, 128, 64), (2, 64, 128), "float32", False),
        ((2, 3, 64), (2, 64, 128), "float32", False),
        ((1, 197, 64), (2, 64, 197), "float32", False),  # broadcast
        ((197, 64), (64, 197), "float32", False),
        ((2, 197, 64), (2, 64, 197), "float64", False),
    ],
)
def test_only_products_that_need_it_are_packed(left: tuple[int, ...], right: tuple[int, ...], dtype: str, badly: bool) -> None:
    x, y = (relax.Var(name, relax.TensorType(shape, dtype)) for name, shape in (("x", left), ("y", right)))
    call = relax.BlockBuilder().normalize(relax.op.matmul(x, y))
    assert isinstance(call, tvm.relax.Call)
    assert divides_badly(call, AVX512) is badly


def test_loops_are_described_for_many_points_at_once() -> None:
    x, y = floats(2, 24, 16), floats(2, 16, 64, seed=1)
    check_nests(space(program(product, x, y), AVX512))
