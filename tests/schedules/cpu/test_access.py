from tvm import te, topi
from tvm.s_tir import Schedule

from schedules.cpu.access import accesses, blocks_of, is_reduction, trivial
from tests.schedules.cpu.programs import floats, program


def strides(function: object) -> dict[tuple[str, bool], tuple[int | None, ...]]:
    sch = Schedule(function)
    (block,) = blocks_of(sch)
    return {(str(access.buffer.name), access.stored): access.strides for access in accesses(sch, block)}


def test_strides_of_a_transpose_and_a_broadcast() -> None:
    function = program(lambda x, b: te.compute((4, 8), lambda i, j: x[j, i] + b[j], name="y"), floats(8, 4), floats(8))
    assert strides(function) == {("x0", False): (1, 4), ("x1", False): (0, 1), ("y", True): (8, 1)}


def test_an_index_taken_apart_has_no_stride_along_that_loop_only() -> None:
    function = program(lambda x: te.compute((6, 8), lambda i, j: x[i // 2, j], name="y"), floats(3, 8))
    assert strides(function) == {("x0", False): (None, 1), ("y", True): (8, 1)}


def test_a_reshape_that_moves_nothing_is_linear() -> None:
    function = program(lambda x: topi.reshape(x, (4, 6)), floats(2, 12))
    assert strides(function)["x0", False] == (6, 1)


def test_a_reduction_is_told_from_a_map() -> None:
    sch = Schedule(program(lambda x: topi.nn.relu(topi.sum(x, 1)), floats(3, 4)))
    assert [is_reduction(sch, block) for block in blocks_of(sch)] == [True, False]


def test_split_loops_are_not_trivial() -> None:
    sch = Schedule(program(topi.exp, floats(12)))
    (block,) = blocks_of(sch)
    assert trivial(sch, block)
    sch.split(sch.get_loops(block)[0], [None, 4])
    assert not trivial(sch, block)
