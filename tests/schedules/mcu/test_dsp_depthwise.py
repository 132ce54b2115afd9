import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from schedules.apply import pack
from schedules.integer import Depthwise
from schedules.machine import Machine
from schedules.mcu.dsp_depthwise import dsp_depthwise
from schedules.space import CannotPack
from tests.schedules.mcu import reference
from tests.schedules.mcu.depthwise_cases import constants, depthwise, images, program, run, space

LAYERS = {
    "odd": depthwise((7, 5, 3)),
    "one pixel": depthwise((1, 1, 5)),
    "one column": depthwise((9, 1, 2), x_zero=3),
    "valid": depthwise((8, 9, 4), pad=(0, 0, 0, 0), x_zero=-5, y_zero=7),
    "two blocks": depthwise((5, 10, 2)),
    "long rows": depthwise((3, 61, 2)),
    "bands": depthwise((30, 40, 2)),
    "bands of stride 2": depthwise((61, 39, 1), strides=(2, 2)),
    "bands of 5x5": depthwise((41, 29, 1), kernel=(5, 5), strides=(1, 2), pad=(2, 0, 3, 1), x_zero=4, batch=2),
    "bands with gaps": depthwise((60, 60, 1), kernel=(1, 1), strides=(2, 1), pad=(0, 0, 0, 0)),
    "stride 2 even": depthwise((8, 8, 4), strides=(2, 2), pad=(0, 0, 1, 1)),
    "stride 2 odd": depthwise((9, 7, 4), strides=(2, 2)),
    "stride 2 long": depthwise((5, 40, 2), strides=(2, 2), pad=(0, 0, 1, 1)),
    "stride 2 and 1": depthwise((9, 7, 2), strides=(2, 1), y_zero=4),
    "stride 3": depthwise((9, 11, 2), strides=(3, 3)),
    "rows left over": depthwise((8, 9, 2), kernel=(2, 2), strides=(3, 3), pad=(0, 0, 0, 0)),
    "1x1": depthwise((4, 5, 3), kernel=(1, 1), pad=(0, 0, 0, 0)),
    "1x4": depthwise((4, 9, 3), kernel=(1, 4), pad=(0, 2, 0, 1)),
    "5x5": depthwise((9, 8, 3), kernel=(5, 5), pad=(2, 2, 2, 2)),
    "10x4": depthwise((20, 10, 1), kernel=(10, 4), strides=(2, 2), pad=(4, 1, 5, 1), multiplier=8),
    "13x1": depthwise((15, 3, 2), kernel=(13, 1), pad=(0, 0, 0, 0), y_zero=-128),
    "wide border": depthwise((3, 3, 2), pad=(3, 4, 2, 3), x_zero=9),
    "dilated": depthwise((10, 9, 3), dilation=(2, 3), pad=(2, 3, 2, 3), x_zero=11),
    "dilated rows": depthwise((10, 9, 3), dilation=(2, 1), pad=(2, 1, 2, 1), x_zero=11),
    "multiplier": depthwise((6, 7, 3), multiplier=3),
    "batch": depthwise((6, 5, 2), batch=3),
    "clipped": depthwise((8, 8, 4), low=-100, high=90, y_zero=-20),
    "clipped at the zero point": depthwise((8, 8, 4), low=-100, high=90, y_zero=-100),
    "left shifts": depthwise((8, 8, 10), right_shifts=False, y_zero=-3),
    "wide weights": depthwise((8, 8, 10), narrow=False, x_zero=127),
}
SMALLER = [
    name
    for name, op in LAYERS.items()
    if op.filters == op.channels and op.dilation[1] == 1 and op.kernel_h <= 12 and op.out_height * op.out_width <= op.height * op.width
]


@pytest.mark.parametrize("op", LAYERS.values(), ids=LAYERS)
def test_any_layer_to_the_last_bit(op: Depthwise, tmp_path: Path) -> None:
    x, values = images(op), constants(op)
    y = run(op, space(op).default, x, values, tmp_path)
    assert np.array_equal(y, reference.run(op, x, *values))


@pytest.mark.parametrize("name", SMALLER)
def test_the_output_may_lie_exactly_over_the_input(name: str, tmp_path: Path) -> None:
    op = LAYERS[name]
    x, values = images(op, seed=5), constants(op, seed=5)
    assert np.array_equal(run(op, space(op).default, x, values, tmp_path, overlapped=True), reference.run(op, x, *values))


@pytest.mark.parametrize("name", ["odd", "two blocks", "stride 2 odd", "5x5"])
def test_every_point_computes_the_same(name: str, tmp_path: Path) -> None:
    op = LAYERS[name]
    x, values = images(op, seed=2), constants(op, seed=2)
    knobs = space(op).knobs
    assert list(knobs["scale"]) == ["line", "rescale", "general"]
    points = [dict(zip(knobs, choice, strict=True)) for choice in itertools.product(*knobs.values())]
    assert len(points) >= 18
    for point in points:
        y = run(op, point, x, values, tmp_path, overlapped=True)
        assert np.array_equal(y, reference.run(op, x, *values))


@pytest.mark.parametrize("seed", range(8))
def test_random_layers(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)

    def pick(*choices: int) -> int:
        return int(rng.choice(choices))

    kernel = pick(1, 2, 3, 3, 3, 5), pick(1, 2, 3, 3, 3, 7)
    pad = tuple(int(rng.integers(0, extent)) for extent in (*kernel, *kernel))
    size = kernel[0] + pick(0, 3, 8), kernel[1] + pick(0, 1, 6, 13), pick(1, 2, 5)
    y_zero = pick(-128, -128, 0, 17)
    op = depthwise(
        size, kernel, (pick(1, 2), pick(1, 2)), (pad[0], pad[1], pad[2], pad[3]), multiplier=pick(1, 1, 2), x_zero=pick(-128, 0, 127)
    )
    op = dataclasses.replace(op, y_zero=y_zero, right_shifts=bool(pick(0, 1, 1)), narrow=bool(pick(0, 1)))
    x, values = images(op, seed), constants(op, seed)
    assert np.array_equal(run(op, space(op).default, x, values, tmp_path), reference.run(op, x, *values))


def test_a_layer_without_a_clip_at_its_zero_point_is_not_put_on_a_line() -> None:
    assert space(LAYERS["valid"]).default["scale"] == "rescale"
    assert space(LAYERS["left shifts"]).default["scale"] == "general"
    assert space(LAYERS["odd"]).default["scale"] == "line"


def test_the_rule_declines_without_the_extension() -> None:
    assert dsp_depthwise(program(LAYERS["odd"]), Machine(thumb2=True)) is None


def test_filters_without_a_line_get_another_scale(tmp_path: Path) -> None:
    op = depthwise((9, 8, 2), kernel=(6, 6), pad=(2, 2, 3, 3), narrow=False, weight_sum=4096)
    offered, x, (w, bias, multiplier, shift) = space(op), images(op), constants(op)
    w[...], w[0, 0, :4, 0] = -128, 0
    bias[0], multiplier[0], shift[0] = 564238, 1468365314, -13
    values = [w, bias, multiplier, shift]
    with pytest.raises(CannotPack):
        offered.pack(offered.default, values)
    point, _ = pack(offered, offered.default, [constants(op), values])
    assert (offered.default["scale"], point["scale"]) == ("line", "rescale")
    assert np.array_equal(run(op, point, x, values, tmp_path), reference.run(op, x, *values))
