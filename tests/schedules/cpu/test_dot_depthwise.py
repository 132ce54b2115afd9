"""Depthwise layers of bytes are exact: windows of one to five rows, steps, borders, channels that no block divides."""

import numpy as np
import pytest

from schedules.cpu import RULES
from schedules.rule import first_space
from tests.schedules.cpu import dot_build
from tests.schedules.cpu.dot_build import MACHINES
from tests.schedules.cpu.dot_programs import Layer, Result, program

LAYERS = [
    Layer(32, 32, h=7, w=9, pad=1, depthwise=True),
    Layer(48, 48, h=8, w=8, pad=1, stride=2, depthwise=True),
    Layer(24, 24, n=2, h=6, w=13, pad=1, depthwise=True),
    Layer(64, 64, h=9, w=7, kernel=(5, 5), pad=2, depthwise=True),
    Layer(100, 100, h=7, w=7, pad=2, dilation=2, depthwise=True),
    Layer(16, 16, h=1, w=9, kernel=(1, 3), depthwise=True),
    Layer(16, 16, h=4, w=1, pad=1, depthwise=True),
]
RESULTS = [Result(form="magic"), Result(residual=True), Result("int8", -9, form="magic"), Result("float32"), Result(form="narrower")]


@pytest.mark.parametrize("machine", MACHINES)
def test_layers_are_exact(machine: str) -> None:
    dot_build.check(list(dot_build.cases(LAYERS, RESULTS, "dot_depthwise", machine)), machine)


def test_few_channels_are_left_to_another_rule() -> None:
    layer = Layer(8, 8, depthwise=True)
    assert first_space(RULES, program(layer, Result()), dot_build.MACHINES["avx2"]).rule != "dot_depthwise"


def test_nests_count_what_a_tile_computes_twice() -> None:
    space = first_space(RULES, program(Layer(32, 32, h=7, w=9, pad=1, depthwise=True), Result()), dot_build.VNNI)
    assert space.nests is not None
    columns = {"pixels": np.array([9, 5]), "blocks": np.array([1, 1]), "rows": np.array([1, 7])}
    (nest,) = space.nests(columns)
    assert list(np.broadcast_to(nest.steps, 2)) == [7 * 9 * 32 * 9, 7 * 10 * 32 * 9]
