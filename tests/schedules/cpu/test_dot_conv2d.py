"""Integer layers are exact: on every kind of machine, for shapes that no tile divides, whatever follows, at each kind of point."""

import numpy as np
import pytest
import tvm

from schedules.cpu import RULES
from schedules.cpu.dot_conv2d import dot_conv2d
from schedules.rule import first_space
from tests.schedules.cpu import dot_build
from tests.schedules.cpu.dot_build import MACHINES
from tests.schedules.cpu.dot_programs import Layer, Result, program

LAYERS = [
    Layer(64, 64, h=7, pad=1),
    Layer(8, 40, n=2, w=13, pad=1),
    Layer(4, 24, h=13, w=13, pad=1, stride=2),
    Layer(20, 16, h=9, w=9, pad=2, dilation=2),
    Layer(4, 64, h=9, w=9, kernel=(7, 7), pad=3, stride=2),
    Layer(4, 16, h=6, w=35, pad=1, stride=2, given=3),
    Layer(4, 16, h=5, w=16, n=2, pad=1, given=1),
    Layer(4, 16, h=5, w=9, pad=1, given=2),
    Layer(4, 16, h=3, w=20, kernel=(1, 1), given=3),
    Layer(8, 16, h=3, w=1, kernel=(3, 1)),
    Layer(32, 72, n=2, kernel=(1, 1)),
    Layer(16, 32, h=8, w=8, kernel=(1, 1), stride=2),
    Layer(64, 100, h=1, w=5, kernel=(1, 1)),
    Layer(32, 48, h=1, w=197, kernel=(1, 1)),
    Layer(64, 1000, h=1, w=1, kernel=(1, 1)),
]
RESULTS = [
    Result(), Result(residual=True), Result("int8", -9), Result("float32"), Result(form="magic"), Result("int8", -9, form="magic"),
    Result(form="narrower"), Result(zero=0, form="magic"), Result("float32", residual=True),
]  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
def test_layers_are_exact(machine: str) -> None:
    dot_build.check(list(dot_build.cases(LAYERS, RESULTS, "dot_conv2d", machine)), machine)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_kind_of_point_is_exact(machine: str) -> None:
    layer, result = Layer(16, 104, n=2, h=3, w=5, kernel=(1, 1)), Result(residual=True, form="magic")
    space = first_space(RULES, program(layer, result), dot_build.MACHINES[machine])
    assert space.knobs["fused"] == (False, True)
    drawn = [{**point, "fused": fused} for fused in (False, True) for point in dot_build.points(space, 1, 6)]
    assert {point["blocks"] for point in drawn} > {1, 2}
    dot_build.check([dot_build.Case(layer, result, space, point) for point in drawn], machine)


@pytest.mark.parametrize("machine", MACHINES)
def test_fetching_weights_ahead_changes_nothing(machine: str) -> None:
    """More tiles than blocks in a group and fewer, groups that overlap, chunks that do not divide the tiles, several steps at once."""
    cases = []
    for layer in (Layer(16, 104, n=2, h=3, w=5, kernel=(1, 1)), Layer(8, 80, h=4, w=5, pad=1), Layer(64, 100, h=1, w=1, kernel=(1, 1))):
        space = first_space(RULES, program(layer, Result()), dot_build.MACHINES[machine])
        for pixels, blocks, chunk, unroll in ((2, 3, 4, 1), (1, 2, 1, 2), (3, 2, 8, 2)):
            point = {**space.default, "blocks": blocks, "unroll": unroll, "prefetch": True}
            point |= {"pixels": min(pixels, space.knobs["pixels"][-1]), "chunk": min(chunk, space.knobs["chunk"][-1])}
            assert space.holds(point)
            assert "llvm.prefetch" in space.apply(point).mod["main"].script()
            cases.append(dot_build.Case(layer, Result(), space, point))
    dot_build.check(cases, machine)


def test_one_group_of_blocks_has_nothing_to_fetch_ahead() -> None:
    space = first_space(RULES, program(Layer(16, 48, kernel=(1, 1)), Result()), dot_build.VNNI)
    assert space.legal({**space.default, "blocks": 2, "prefetch": True})
    assert not space.legal({**space.default, "blocks": 3, "prefetch": True})


def test_each_core_keeps_its_pixels_and_fetches_weights_ahead() -> None:
    many = first_space(RULES, program(Layer(256, 256, h=14, w=14, kernel=(1, 1)), Result()), dot_build.VNNI).default
    assert many["prefetch"]
    assert -(-196 // many["pixels"]) // 2 <= many["chunk"] < -(-196 // many["pixels"])
    few = first_space(RULES, program(Layer(512, 512, h=7, w=7, pad=1), Result()), dot_build.VNNI).default
    assert few["prefetch"]
    assert few["chunk"] >= 7
    small = first_space(RULES, program(Layer(64, 64, h=14, w=14, kernel=(1, 1)), Result()), dot_build.VNNI).default
    assert (small["prefetch"], small["chunk"]) == (False, 1)


def test_nests_count_what_a_tile_computes_twice() -> None:
    space = first_space(RULES, program(Layer(16, 48, h=1, w=10, kernel=(1, 1)), Result()), dot_build.VNNI)
    assert space.nests is not None
    columns = {"pixels": np.array([5, 4]), "blocks": np.array([3, 2]), "unroll": np.array([1, 2]), "chunk": np.array([1, 2])}
    (nest,) = space.nests({**columns, "fused": True, "prefetch": False})
    assert list(nest.steps) == [10 * 48 * 16, 12 * 64 * 16]
    assert list(nest.numbers["waste"]) == pytest.approx([1.0, 1.6])


def test_an_image_that_is_not_bytes_is_declined() -> None:
    layer = Layer(16, 16)
    text = program(layer, Result("float32")).script().replace('"uint8"', '"int8"')
    assert dot_conv2d(tvm.script.from_source(text), dot_build.VNNI) is None
