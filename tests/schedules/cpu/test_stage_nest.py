"""What elementwise work and reductions tell the cost model of their loops."""

from collections.abc import Callable

import numpy as np
import pytest
from tvm import te, tirx

from schedules.loopnest import LoopNest
from schedules.space import Space
from tests.schedules.cpu.programs import AVX512, program, space


def inputs(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [np.zeros(shape, np.float32) for shape in shapes]


def total(x: te.Tensor) -> te.Tensor:
    k = te.reduce_axis((0, x.shape[1]), "k")
    return te.compute((x.shape[0],), lambda i: te.sum(x[i, k], axis=k), name="total")


def turned(x: te.Tensor) -> te.Tensor:
    return te.compute((x.shape[1], x.shape[0]), lambda i, j: x[j, i], name="turned")


def shifted(x: te.Tensor) -> te.Tensor:
    return te.compute(x.shape, lambda *index: tirx.exp(x[index] + tirx.const(1, "float32")), name="shifted")


def nests(compute: Callable[[te.Tensor], te.Tensor], shape: tuple[int, ...]) -> tuple[Space, list[LoopNest]]:
    found = space(program(compute, *inputs(shape)), AVX512)
    assert found.nests is not None
    return found, list(found.nests({"vectors": np.array([1, 2, 4])}))


@pytest.mark.parametrize("compute", [shifted, turned, total])
def test_loops_multiply_to_the_steps_for_all_points(compute: Callable[[te.Tensor], te.Tensor]) -> None:
    _, (nest, *_) = nests(compute, (64, 256))
    product = np.prod([np.broadcast_to(loop.extent, 3) for loop in nest.loops], axis=0)
    assert np.array_equal(product, np.full(3, 64 * 256))
    assert np.array_equal(nest.steps, 64 * 256)


def test_rows_are_shared_out_only_where_there_is_enough_work() -> None:
    for rows in (8, 64):
        found, (nest,) = nests(shifted, (rows, 256))
        assert found.rule == "elementwise"
        assert any(loop.kind == "parallel" for loop in nest.loops) == (rows == 64)


def test_a_sum_accumulates_along_what_it_reads() -> None:
    found, (nest, *_) = nests(total, (64, 256))
    assert found.rule == "reduction"
    assert [operand.role for operand in nest.operands].count("accumulate") == 1
    (read,) = (operand for operand in nest.operands if operand.role == "read")
    (stored,) = (operand for operand in nest.operands if operand.role == "accumulate")
    assert read.dims[0]["lane"] == 1
    assert "lane" not in stored.dims[0]
    assert [loop.name for loop in nest.loops if loop.reduces] == ["l1", "several", "lane"]


def test_reads_across_memory_count_as_gathers() -> None:
    for compute, gathers in ((shifted, 0), (turned, 1)):
        _, (nest,) = nests(compute, (64, 256))
        assert nest.numbers["gathers"] == gathers
