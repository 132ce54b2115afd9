"""What the rules of microcontrollers tell the cost model: finite for every point, and in the order in which the authors expect it."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from schedules.integer import FusedRows, describe
from schedules.machine import Machine
from schedules.mcu import RULES
from schedules.rule import first_space
from schedules.tuning.features import featurize
from tests.schedules.mcu import conv2d_cases, depthwise_cases, test_float_tile

M0 = Machine(vector_bytes=4, vector_registers=13, fma_ports=1, l1_bytes=0, l2_bytes=0, l3_bytes=0)
CORES = {
    "m0": M0,
    "m3": Machine(**{**M0.__dict__, "thumb2": True}),
    "m4": Machine(**{**M0.__dict__, "thumb2": True, "dsp": True, "fpu": True}),
    "m55": Machine(**{**M0.__dict__, "vector_bytes": 16, "vector_registers": 8, "thumb2": True, "dsp": True, "helium": True, "fpu": True}),
}
FIRST = depthwise_cases.depthwise((24, 24, 16), pad=(1, 1, 1, 1))
FUSED = FusedRows(FIRST, conv2d_cases.pointwise(24 * 24, 16, 32))

LAYERS = {
    "fused rows": describe(
        conv2d_cases.program(FUSED.pointwise),
        replace(FUSED, pointwise=replace(FUSED.pointwise, height=24, width=24, out_height=24, out_width=24)),
    ),
    "pointwise": conv2d_cases.program(conv2d_cases.pointwise(25, 64, 64)),
    "3x3": conv2d_cases.program(conv2d_cases.conv2d((9, 9, 5), 7, pad=(1, 1, 1, 1))),
    "one pixel": conv2d_cases.program(conv2d_cases.pointwise(1, 64, 12)),
    "depthwise": depthwise_cases.program(depthwise_cases.depthwise((25, 5, 16), pad=(1, 1, 1, 1))),
    "depthwise, stride 2": depthwise_cases.program(depthwise_cases.depthwise((48, 48, 8), strides=(2, 2), pad=(0, 0, 1, 1))),
    "float 3x3": test_float_tile.PROGRAMS["3x3"],
    "float depthwise": test_float_tile.PROGRAMS["depthwise"],
}


def space_of(core, layer):
    return first_space(RULES, LAYERS[layer], CORES[core])


def points_of(space):
    return [point for values in product(*space.knobs.values()) if space.legal(point := dict(zip(space.knobs, values, strict=True)))]


def feature(space, core, points, name):
    table = featurize(space, CORES[core], points)
    return table.rows[:, list(table.names).index(name)]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("core", CORES)
def test_every_point_has_finite_features(core, layer):
    space = space_of(core, layer)
    if space.size == 1:
        return
    assert space.nests is not None
    points = points_of(space)
    table = featurize(space, CORES[core], points)
    assert len(table.rows) == len(points)
    assert np.isfinite(table.rows).all()
    if len(points) > 1:
        assert (np.ptp(table.rows, axis=0) > 0).any(), "points of one space look alike"


def test_a_tile_that_shares_more_takes_fewer_instructions():
    space = space_of("m4", "pointwise")
    small, large = ({**space.default, "tile": tile} for tile in ("1x2", "3x2"))
    few, many = feature(space, "m4", [large, small], "number.instructions")
    assert few < many


def test_bands_of_fused_rows_are_told_apart():
    space = space_of("m4", "fused rows")
    assert space.rule == "fused_rows"
    instructions = feature(space, "m4", points_of(space), "number.instructions")
    assert len(set(instructions.tolist())) == space.size > 2


def test_short_bands_copy_rows_again():
    space = space_of("m4", "depthwise, stride 2")
    short, whole = ({**space.default, "rows": rows} for rows in (space.knobs["rows"][0], space.knobs["rows"][-1]))
    few, many = feature(space, "m4", [whole, short], "number.instructions")
    assert few < many
