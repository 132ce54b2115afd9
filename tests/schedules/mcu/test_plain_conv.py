import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schedules.integer import Conv2D
from schedules.machine import Machine
from tests.schedules.mcu import reference
from tests.schedules.mcu.plain_cases import M0, M3, constants, conv, images, run, space

MACHINES = {"m0": M0, "m3": M3}
LAYERS = {
    "pointwise": conv((5, 5, 8), 6),
    "odd": conv((3, 3, 7), 5, x_zero=4, y_zero=-3),
    "bounded": conv((4, 5, 32), 7, weight_sum=2048),
    "one pixel": conv((1, 1, 33), 10),
    "one pixel even": conv((1, 1, 66), 13, x_zero=5, y_zero=1),
    "one pixel odd": conv((1, 1, 35), 9, x_zero=5, y_zero=1),
    "one pixel long": conv((1, 1, 1030), 6, narrow=False, x_zero=127),
    "one pixel in parts": conv((1, 1, 1030), 6, x_zero=127),
    "one pixel bounded": conv((1, 1, 640), 6, weight_sum=1 << 15),
    "whole image": conv((4, 5, 6), 8, (4, 5)),
    "beginning of an image": conv((4, 5, 6), 3, (1, 3), strides=(5, 4)),
    "rows": conv((1, 1, 20), 3, batch=5),
    "3x3": conv((6, 7, 4), 8, (3, 3), pad=(1, 1, 1, 1)),
    "first": conv((9, 10, 1), 5, (10, 4), pad=(4, 1, 5, 1), strides=(2, 2), x_zero=83),
    "strided 1x1": conv((7, 5, 6), 4, strides=(2, 2)),
    "stride 2": conv((8, 9, 3), 4, (3, 3), pad=(0, 0, 1, 1), strides=(2, 2), batch=2),
    "valid": conv((7, 6, 3), 5, (3, 2), strides=(1, 2)),
    "dilated": conv((9, 8, 3), 4, (2, 3), dilation=(3, 2), pad=(1, 2, 2, 1)),
    "dilated valid": conv((9, 8, 3), 4, (2, 3), dilation=(3, 2), batch=2),
    "clipped": conv((4, 4, 8), 6, low=-100, high=90, y_zero=-20),
    "left shifts": conv((3, 4, 8), 12, right_shifts=False, y_zero=-3),
    "wide weights": conv((3, 4, 9), 12, narrow=False, x_zero=127),
    "long": conv((1, 3, 700), 8, narrow=False, x_zero=127),
}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("op", LAYERS.values(), ids=LAYERS)
def test_any_layer_to_the_last_bit(op: Conv2D, machine: Machine, tmp_path: Path) -> None:
    x, values = images(op), constants(op)
    y = run(op, machine, space(op, machine).default, x, values, tmp_path)
    assert np.array_equal(y, reference.run(op, x, *values))


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("name", ["bounded", "3x3"])
def test_every_point_to_the_last_bit(name: str, machine: Machine, tmp_path: Path) -> None:
    op = LAYERS[name]
    x, values, offered = images(op), constants(op), space(op, machine)
    expected = reference.run(op, x, *values)
    for choice in itertools.product(*offered.knobs.values()):
        point = dict(zip(offered.knobs, choice, strict=True))
        assert np.array_equal(run(op, machine, point, x, values, tmp_path), expected), point


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("name", ["pointwise", "odd", "rows", "3x3", "first", "strided 1x1", "stride 2", "valid", "dilated"])
def test_output_over_input_as_far_as_the_kernel_says(name: str, machine: Machine, tmp_path: Path) -> None:
    op = LAYERS[name]
    x, values = images(op, seed=3), constants(op, seed=3)
    y = run(op, machine, space(op, machine).default, x, values, tmp_path, overlapped=True)
    assert np.array_equal(y, reference.run(op, x, *values))


def test_pixels_narrower_than_filters_may_be_computed_in_place() -> None:
    narrowing = conv((8, 8, 16), 8)
    attributes = space(narrowing, M3).apply(space(narrowing, M3).default).mod["main"].attrs
    assert json.loads(str(attributes["stack.overlap"]))["0"][0] <= 0


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("name", ["one pixel", "one pixel long", "one pixel in parts", "whole image"])
def test_one_pixel_of_a_whole_image_needs_no_scratch(name: str, machine: Machine) -> None:
    offered = space(LAYERS[name], machine)
    assert int(offered.apply(offered.default).mod["main"].attrs["stack.scratch"]) == 0


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("sign", [-1, 1])
def test_sums_that_fill_their_lanes(sign: int, machine: Machine, tmp_path: Path) -> None:
    """All weights and all activations at their ends, with the tightest bound that a layer can promise."""
    op = replace(conv((1, 3, 258), 4, x_zero=0, y_zero=0), weight_sum=1 << 15)
    w, bias, multiplier, shift = constants(op)
    w[:] = sign * 127
    multiplier[:], shift[:], bias[:] = 1 << 30, -14, 7
    for value in (-128, 127):
        x = np.full((1, 1, 3, 258), value, np.int8)
        y = run(op, machine, space(op, machine).default, x, [w, bias, multiplier, shift], tmp_path)
        assert np.array_equal(y, reference.run(op, x, w, bias, multiplier, shift))


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_random_layers_to_the_last_bit(machine: Machine, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    for seed in range(12):
        kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 5)))
        size = (int(rng.integers(3, 8)), int(rng.integers(4, 9)), int(rng.integers(1, 12)))
        pad = tuple(int(edge) for edge in rng.integers(0, 2, 4)) if rng.random() < 0.6 else (0, 0, 0, 0)
        zero = {"x_zero": int(rng.integers(-128, 128)), "y_zero": int(rng.integers(-128, 128))}
        strides = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        op = conv(size, int(rng.integers(1, 9)), kernel, pad=pad, strides=strides, right_shifts=bool(rng.random() < 0.8), **zero)
        x, values = images(op, seed), constants(op, seed)
        y = run(op, machine, space(op, machine).default, x, values, tmp_path)
        assert np.array_equal(y, reference.run(op, x, *values)), op
