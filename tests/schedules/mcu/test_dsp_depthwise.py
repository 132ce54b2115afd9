from pathlib import Path

import numpy as np
import pytest

from schedules.integer import Depthwise
from tests.schedules.mcu import reference
from tests.schedules.mcu.depthwise_cases import constants, depthwise, images, run, space

LAYERS = {
    "odd": depthwise((7, 5, 3)),
    "one pixel": depthwise((1, 1, 5)),
    "one column": depthwise((9, 1, 2), x_zero=3),
    "valid": depthwise((8, 9, 4), pad=(0, 0, 0, 0), x_zero=-5, y_zero=7),
    "stride 2 even": depthwise((8, 8, 4), strides=(2, 2), pad=(0, 0, 1, 1)),
    "stride 2 odd": depthwise((9, 7, 4), strides=(2, 2)),
    "stride 2 and 1": depthwise((9, 7, 2), strides=(2, 1), y_zero=4),
    "5x5": depthwise((9, 8, 3), kernel=(5, 5), pad=(2, 2, 2, 2)),
    "10x4": depthwise((20, 10, 1), kernel=(10, 4), strides=(2, 2), pad=(4, 1, 5, 1), multiplier=8),
    "dilated": depthwise((10, 9, 3), dilation=(2, 3), pad=(2, 3, 2, 3), x_zero=11),
    "multiplier": depthwise((6, 7, 3), multiplier=3),
    "batch": depthwise((6, 5, 2), batch=3),
    "clipped": depthwise((8, 8, 4), low=-100, high=90, y_zero=-20),
    "left shifts": depthwise((8, 8, 10), right_shifts=False, y_zero=-3),
    "wide weights": depthwise((8, 8, 10), narrow=False, x_zero=127),
}


@pytest.mark.parametrize("op", LAYERS.values(), ids=LAYERS)
def test_any_layer_to_the_last_bit(op: Depthwise, tmp_path: Path) -> None:
    x, values = images(op), constants(op)
    y = run(op, space(op).default, x, values, tmp_path)
    assert np.array_equal(y, reference.run(op, x, *values))


IN_PLACE = [
    name
    for name, op in LAYERS.items()
    if op.filters == op.channels and op.dilation[1] == 1 and op.out_height * op.out_width <= op.height * op.width
]


@pytest.mark.parametrize("name", IN_PLACE)
def test_the_output_may_lie_exactly_over_the_input(name: str, tmp_path: Path) -> None:
    op = LAYERS[name]
    x, values = images(op, seed=5), constants(op, seed=5)
    assert np.array_equal(run(op, space(op).default, x, values, tmp_path, overlapped=True), reference.run(op, x, *values))
