"""Helium kernels, to the last bit, at points of their spaces; all of one class share a firmware."""

from pathlib import Path

import numpy as np
import pytest

from schedules.integer import Conv2D, Depthwise
from schedules.machine import Machine
from schedules.mcu.mve_conv2d import mve_conv2d
from schedules.mcu.mve_depthwise import mve_depthwise
from tests.schedules.mcu import conv2d_cases, depthwise_cases, reference
from tests.schedules.mcu.conv2d_cases import conv2d, pointwise
from tests.schedules.mcu.depthwise_cases import depthwise
from tests.schedules.mcu.mve_firmware import Firmware, need_tools, space

RELU = {"x_zero": -128, "y_zero": -128}
SAME = (1, 1, 1, 1)
CONVOLUTIONS = {
    "dense": pointwise(1, 640, 24, **RELU),
    "dense, odd": pointwise(1, 37, 11),
    "dense, short": pointwise(1, 8, 19, **RELU),
    "dense, rows": pointwise(3, 20, 8, y_zero=-3, high=60),
    "pointwise": pointwise(9, 64, 16, **RELU),
    "pointwise, even": pointwise(8, 16, 9, low=-7),
    "pointwise, short": pointwise(7, 5, 4, right_shifts=False),
    "pointwise, long": pointwise(2, 291, 8, narrow=False),
    "pointwise, strided": conv2d((5, 6, 20), 8, (1, 1), strides=(2, 2)),
    "3x3": conv2d((5, 6, 16), 8, pad=SAME, **RELU),
    "3x3, first": conv2d((6, 5, 3), 8, pad=(0, 0, 1, 1), strides=(2, 2), **RELU),
    "10x4": conv2d((20, 6, 1), 16, (10, 4), strides=(2, 2), pad=(4, 1, 5, 1), **RELU),
    "valid": conv2d((4, 7, 8), 12),
    "one column": conv2d((9, 1, 5), 4, (5, 1), pad=(2, 0, 2, 0), right_shifts=False),
    "whole rows": conv2d((7, 2, 9), 5, (3, 2)),
    "dilated": conv2d((8, 9, 4), 6, dilation=(2, 3), pad=(1, 2, 1, 2), low=-100, high=99),
    "batch": conv2d((3, 4, 7), 8, pad=SAME, batch=2),
    "batch, direct": conv2d((3, 4, 17), 8, (1, 1), strides=(1, 2), batch=2),
    "ties": pointwise(5, 20, 16),
    "left shifts": conv2d((4, 4, 6), 16, pad=SAME, right_shifts=False, narrow=False, **RELU),
}
DEPTHWISE = {
    "odd": depthwise((7, 5, 19)),
    "one pixel": depthwise((1, 1, 5)),
    "one column": depthwise((9, 1, 2), x_zero=3),
    "valid": depthwise((8, 9, 4), pad=(0, 0, 0, 0), x_zero=-5, y_zero=7),
    "stride 2 even": depthwise((8, 8, 16), strides=(2, 2), pad=(0, 0, 1, 1)),
    "stride 2 odd": depthwise((9, 7, 4), strides=(2, 2)),
    "stride 2 and 1": depthwise((9, 7, 2), strides=(2, 1), y_zero=4),
    "5x5": depthwise((9, 8, 3), kernel=(5, 5), pad=(2, 2, 2, 2)),
    "10x4": depthwise((20, 10, 1), kernel=(10, 4), strides=(2, 2), pad=(4, 1, 5, 1), multiplier=8),
    "21x1": depthwise((21, 1, 33), kernel=(21, 1), pad=(0, 0, 0, 0), low=-50),
    "dilated": depthwise((10, 9, 3), dilation=(2, 3), pad=(2, 3, 2, 3), x_zero=11),
    "multiplier": depthwise((6, 7, 17), multiplier=3),
    "batch": depthwise((6, 5, 2), batch=3),
    "clipped": depthwise((8, 8, 4), low=-100, high=90, y_zero=-20),
    "ties": depthwise((6, 6, 17), y_zero=9),
    "left shifts": depthwise((8, 8, 10), right_shifts=False, y_zero=-3),
    "wide weights": depthwise((8, 8, 10), narrow=False, x_zero=127),
}
CLASSES = [(mve_conv2d, CONVOLUTIONS, conv2d_cases), (mve_depthwise, DEPTHWISE, depthwise_cases)]


def halve(constants: list[np.ndarray]) -> None:
    """Small weights and whole powers of two: every other result lies between two integers, above zero and below."""
    w, bias, multiplier, shift = constants
    w //= 100
    bias //= 1 << 24
    multiplier[:] = 1 << 30
    shift[:] = -np.arange(len(shift)) % 4 - 3


@pytest.mark.parametrize("overlapped", [False, True], ids=["apart", "overlapped"])
@pytest.mark.parametrize(
    ("rule", "layers", "cases"), [(mve_conv2d, CONVOLUTIONS, conv2d_cases), (mve_depthwise, DEPTHWISE, depthwise_cases)]
)
def test_layers_of_any_shape_at_every_point(rule, layers, cases, overlapped: bool, tmp_path: Path) -> None:
    need_tools()
    firmware, wanted = Firmware(), []
    for name, op in layers.items():
        offered = space(rule, cases.program(op))
        x, constants = cases.images(op), cases.constants(op)
        if name == "ties":
            halve(constants)
        for tile in offered.knobs["tile"]:
            firmware.add(offered, {"tile": tile}, x, constants, op.pixels * op.filters, overlapped)
            wanted.append((f"{name}, {tile}", reference.run(op, x, *constants)))
    for (name, y), found in zip(wanted, firmware.run(tmp_path), strict=True):
        assert np.array_equal(found, y.ravel()), name


@pytest.mark.parametrize(("rule", "program"), [(mve_conv2d, depthwise_cases.program), (mve_depthwise, conv2d_cases.program)])
def test_each_rule_leaves_the_other_class_and_other_machines_alone(rule, program) -> None:
    other: Conv2D | Depthwise = DEPTHWISE["odd"] if rule is mve_conv2d else CONVOLUTIONS["3x3"]
    assert rule(program(other), Machine(helium=True)) is None
    own = conv2d_cases.program(CONVOLUTIONS["3x3"]) if rule is mve_conv2d else depthwise_cases.program(DEPTHWISE["odd"])
    assert rule(own, Machine(dsp=True)) is None
    assert rule(own, Machine(helium=True)) is not None
