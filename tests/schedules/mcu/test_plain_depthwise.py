from pathlib import Path

import numpy as np
import pytest

from schedules.integer import Depthwise
from schedules.machine import Machine
from tests.schedules.mcu import reference
from tests.schedules.mcu.plain_cases import M0, M3, constants, depthwise, images, run, space

MACHINES = {"m0": M0, "m3": M3}
SAME = (1, 1, 1, 1)
LAYERS = {
    "odd": depthwise((7, 5, 3), pad=SAME),
    "even": depthwise((4, 8, 2), pad=SAME, x_zero=9),
    "one pixel": depthwise((1, 1, 5), pad=SAME),
    "one column": depthwise((9, 1, 2), pad=SAME, x_zero=3),
    "valid": depthwise((8, 9, 4), x_zero=-5, y_zero=7),
    "stride 2 even": depthwise((8, 8, 4), strides=(2, 2), pad=(0, 0, 1, 1)),
    "stride 2 odd": depthwise((9, 7, 4), strides=(2, 2), pad=SAME),
    "stride 2 and 1": depthwise((9, 7, 2), strides=(2, 1), pad=SAME, y_zero=4),
    "5x5": depthwise((9, 8, 3), (5, 5), pad=(2, 2, 2, 2)),
    "10x4": depthwise((20, 10, 1), (10, 4), multiplier=8, strides=(2, 2), pad=(4, 1, 5, 1)),
    "dilated": depthwise((10, 9, 3), dilation=(2, 3), pad=(2, 3, 2, 3), x_zero=11),
    "multiplier": depthwise((6, 7, 3), multiplier=3, pad=SAME),
    "batch": depthwise((6, 5, 2), batch=3, pad=SAME),
    "clipped": depthwise((8, 8, 4), low=-100, high=90, y_zero=-20, pad=SAME),
    "left shifts": depthwise((5, 6, 12), right_shifts=False, y_zero=-3, pad=SAME),
    "wide weights": depthwise((5, 6, 12), narrow=False, x_zero=127, pad=SAME),
}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("op", LAYERS.values(), ids=LAYERS)
def test_any_layer_to_the_last_bit(op: Depthwise, machine: Machine, tmp_path: Path) -> None:
    x, values = images(op), constants(op)
    y = run(op, machine, space(op, machine).default, x, values, tmp_path)
    assert np.array_equal(y, reference.run(op, x, *values))


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("name", ["even", "stride 2 odd", "5x5", "batch"])
def test_bands_of_any_height(name: str, machine: Machine, tmp_path: Path) -> None:
    op = LAYERS[name]
    x, values, offered = images(op), constants(op), space(op, machine)
    expected = reference.run(op, x, *values)
    for rows in offered.knobs["rows"]:
        assert np.array_equal(run(op, machine, {"rows": rows}, x, values, tmp_path), expected), rows


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("name", ["odd", "one pixel", "5x5", "batch"])
def test_in_place(name: str, rows: int, machine: Machine, tmp_path: Path) -> None:
    op = LAYERS[name]
    x, values = images(op, seed=5), constants(op, seed=5)
    y = run(op, machine, {"rows": rows}, x, values, tmp_path, overlapped=True)
    assert np.array_equal(y, reference.run(op, x, *values))


def test_strided_layers_keep_their_input() -> None:
    offered = space(LAYERS["stride 2 odd"], M3)
    assert str(offered.apply(offered.default).mod["main"].attrs["stack.overlap"]) == "{}"
