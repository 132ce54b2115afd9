"""Reading launches from TVM's host functions, and laying out a call's memory on the GPU."""

import pytest
from tvm import te, tirx

from schedules.gpu import RULES
from schedules.rule import first_space
from stack.emit.cuda import Arena, launches_of, lay_out
from stack.emit.cuda_kernels import ALIGN, Kernels, build_kernels
from stack.emit.program import Place, Program, Step
from stack.manifest import Tensor
from targets.registry import find


def two_reductions() -> tirx.PrimFunc:
    """Two reductions in one program: as many kernels, with a tensor of 4 x 9 floats between them."""
    x = te.placeholder((4, 9, 8), name="x")
    k, m = te.reduce_axis((0, 8), "k"), te.reduce_axis((0, 4), "m")
    rows = te.compute((4, 9), lambda a, b: te.sum(x[a, b, k], axis=k), name="rows")
    total = te.compute((9,), lambda b: te.sum(rows[m, b], axis=m), name="total")
    return te.create_prim_func([x, total])


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    target = find("cuda-sm90")
    space = first_space(RULES, two_reductions(), target.machine)
    program = space.apply(space.default).mod["main"].with_attr("global_symbol", "both")
    return build_kernels([program], target)


def test_a_program_of_two_kernels_passes_values_in_scratch(kernels: Kernels) -> None:
    first, second = kernels.launches["both"]
    assert sorted(place.kind for place in first.arguments) == ["parameter", "scratch"]
    assert sorted(place.kind for place in second.arguments) == ["parameter", "scratch"]
    assert Place("parameter", 0) in first.arguments
    assert Place("parameter", 1) in second.arguments
    assert kernels.scratch_bytes == ALIGN
    for launch in (first, second):
        assert f"{launch.kernel}(" in kernels.source
        assert launch.block[0] * launch.block[1] * launch.block[2] <= 1024


def test_arguments_become_places_of_the_program(kernels: Kernels) -> None:
    step = Step("both", (Place("in", 0), Place("out", 0)))
    (_, first), (_, second) = launches_of(step, kernels)
    assert {place.kind for place in first} == {"in", "scratch"}
    assert {place.kind for place in second} == {"out", "scratch"}


def test_a_copy_is_a_launch_without_a_kernel(kernels: Kernels) -> None:
    places = (Place("in", 0), Place("out", 0))
    assert list(launches_of(Step(None, places, 16), kernels)) == [(None, list(places))]


def test_inputs_outputs_and_scratch_lie_behind_the_intermediates() -> None:
    program = Program([Tensor("x", (3,), "float32")], [Tensor("y", (2, 2), "bool"), Tensor("z", (), "int64")], arena_bytes=300)
    arena = lay_out(program, scratch_bytes=10)
    assert arena == Arena(scratch=512, inputs=(768,), outputs=(1024, 1280), bytes=1536)
    assert arena.place(Place("arena", 64)) == ("STACK_ARENA", 64)
    assert arena.place(Place("scratch", 0)) == ("STACK_ARENA", 512)
    assert arena.place(Place("out", 1)) == ("STACK_ARENA", 1280)
    assert arena.place(Place("weights", 128)) == ("STACK_WEIGHTS", 128)
