"""Winograd's algorithm: its arithmetic in exact numbers, its programs against plain ones, and when the rule takes it unasked."""

from pathlib import Path

import numpy as np
import pytest

import stack
from schedules.cpu.winograd_transforms import PAIRS, matrices, weights
from schedules.machine import Machine
from schedules.space import CannotPack, Point, Space
from schedules.tuning.features import featurize
from tests.schedules.cpu.convolutions import NONE, Conv, reference
from tests.schedules.cpu.programs import AVX2, AVX512, MACHINES, space
from tests.schedules.cpu.test_conv2d import TARGETS, check_points, model, programs, some_points, values

LARGE_L2 = Machine(cores=1, vector_bytes=64, vector_registers=32, l2_bytes=2 << 20)


@pytest.mark.parametrize("m", PAIRS)
def test_transforms_are_a_convolution(m: int) -> None:
    b, _, a = matrices(m)
    image, kernel = np.random.default_rng(0).standard_normal((m + 2, m + 2)), np.random.default_rng(1).standard_normal((3, 3))
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3))
    u = weights(kernel, m)
    np.testing.assert_allclose(a @ (u * (b @ image @ b.T)) @ a.T, np.einsum("hwrs,rs->hw", windows, kernel), rtol=1e-5, atol=1e-5)


def space_of(conv: Conv, machine: Machine) -> Space:
    (found,) = [chosen for program in programs(conv, machine) if (chosen := space(program, machine)).rule == "conv2d"]
    return found


def winograd_points(choices: Space) -> list[Point]:
    """One for each way to structure the loops: both sizes of tiles, blocks of tiles within and apart from those of filters."""
    points = [point for point in some_points(choices, 200) if point["algorithm"] != "direct"]
    one_each = {(point["algorithm"], point["rows_outside"], point["prefetch"]): point for point in points}
    assert len(one_each) == 8
    return list(one_each.values())


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: f"{machine.lanes()} lanes")
@pytest.mark.parametrize(
    "conv",
    [
        pytest.param(Conv(16, 32, h=9, w=13), id="odd sizes"),
        pytest.param(Conv(32, 48, h=8, w=8, n=2), id="two images"),
        pytest.param(Conv(16, 16, h=1, w=1), id="one pixel"),
    ],
)
def test_every_point_computes_the_same(conv: Conv, machine: Machine, tmp_path: Path) -> None:
    program = next(program for program in programs(conv, machine) if space(program, machine).rule == "conv2d")
    check_points(program, machine, winograd_points, tmp_path)


@pytest.mark.parametrize("target", TARGETS)
def test_layers_where_it_is_the_default_are_right(target: str) -> None:
    layers = [Conv(64, 64, h=19, w=22), Conv(32, 64, h=30, w=17, padding=NONE), Conv(64, 32, h=16, w=16, padding=(0, 2, 3, 1), n=2)]
    for conv in layers:
        assert space_of(with_border(conv), AVX512).default["algorithm"] != "direct"
    library = stack.compile(model(layers), target, threads=2)
    images = {f"x{index}": values(conv.image, 100 + index) for index, conv in enumerate(layers)}
    results = library.run(images)
    for index, conv in enumerate(layers):
        expected = reference(images[f"x{index}"], values(conv.weight, index), conv)
        assert np.abs(results[f"y{index}"] - expected).max() <= 1e-5 * np.abs(expected).max(), str(conv)


def with_border(conv: Conv) -> Conv:
    """The same layer with a border of one pixel, which is what `programs` adds its residual to."""
    return Conv(conv.c, conv.k, h=conv.h, w=conv.w, n=conv.n)


@pytest.mark.parametrize(
    ("conv", "machine"),
    [
        (Conv(32, 32, h=8, w=8, strides=(2, 2)), AVX512),
        (Conv(8, 32, h=64, w=64), AVX512),
        (Conv(32, 32, h=8, w=8, groups=2), AVX512),
    ],
)
def test_other_convolutions_are_direct(conv: Conv, machine: Machine) -> None:
    assert "algorithm" not in space_of(conv, machine).knobs


def test_few_pixels_are_direct_or_take_small_tiles_by_default() -> None:
    assert space_of(Conv(128, 32, h=7, w=7), LARGE_L2).default["algorithm"] == "direct"
    assert space_of(Conv(512, 512, h=7, w=7), LARGE_L2).default["algorithm"] == "winograd2"  # whose weights are fetched ahead
    assert space_of(Conv(64, 64, h=56, w=56), LARGE_L2).default["algorithm"] == "winograd4"


def test_weights_that_are_not_constant_stay_direct() -> None:
    choices = space_of(Conv(64, 64, h=20, w=20), AVX512)
    assert choices.pack
    assert choices.otherwise
    with pytest.raises(CannotPack, match="0 constants could be the weights"):
        choices.pack(choices.default, [values((1, 4, 1, 1, 16), 0)])
    assert choices.otherwise["algorithm"] == "direct"
    bias = values((1, 4, 1, 1, 16), 0)
    assert choices.pack(choices.otherwise, [bias])[0] is bias


@pytest.mark.parametrize("machine", [AVX2, AVX512], ids=lambda machine: f"{machine.lanes()} lanes")
def test_loops_are_described_for_all_points(machine: Machine) -> None:
    choices = space_of(Conv(32, 64, h=20, w=20), machine)
    points = some_points(choices, 10000)
    table = featurize(choices, machine, points)
    assert len(table.rows) == len(points)
    assert np.isfinite(table.rows[:, : table.rows.shape[1] // 2]).all()
    for name in ("winograd2", "winograd4", "direct"):
        chosen = [at for at, point in enumerate(points) if point["algorithm"] == name]
        assert len(np.unique(table.rows[chosen], axis=0)) > len(chosen) // 2, name
