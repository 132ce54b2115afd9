"""Depthwise convolutions at points of every kind, against NumPy, where the window leaves the image on each side."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import te, tirx

from relay_passes.lower_conv2d import conv2d_nchwc
from schedules.cpu.depthwise import BLOCK, depthwise
from schedules.cpu.guard_border import guard_border
from schedules.machine import Machine
from schedules.space import Point, Space
from tests.schedules.cpu.convolutions import Conv, reference
from tests.schedules.cpu.programs import AVX512, MACHINES, aligned, run

LAYERS = [
    pytest.param(Conv(32, 32, h=6, w=8, groups=32), id="3x3"),
    pytest.param(Conv(32, 32, h=7, w=12, n=2, groups=32, strides=(2, 2)), id="strides of two"),
    pytest.param(Conv(32, 32, h=14, w=14, groups=32, kernel=(5, 5), padding=(2, 2, 2, 2)), id="5x5"),
    pytest.param(Conv(32, 32, h=9, w=10, groups=32, kernel=(5, 5), padding=(1, 2, 2, 1), strides=(2, 1)), id="uneven border"),
    pytest.param(Conv(32, 32, h=9, w=12, groups=32, padding=(2, 3, 2, 3), dilation=(2, 3)), id="dilation"),
    pytest.param(Conv(32, 32, h=6, w=6, groups=32, padding=(0, 0, 0, 0)), id="no border"),
    pytest.param(Conv(32, 32, h=4, w=40, groups=32, kernel=(1, 7), padding=(0, 3, 0, 3)), id="one row"),
    pytest.param(Conv(32, 32, h=1, w=1, groups=32), id="one pixel"),
]


def program(conv: Conv, lanes: int) -> tirx.PrimFunc:
    """The layer with a rectifier behind it."""
    x = te.placeholder((conv.n, conv.c // lanes, conv.h, conv.w, lanes), "float32", name="x")
    w = te.placeholder((conv.c // lanes, 1, *conv.kernel, 1, lanes), "float32", name="w")
    attrs = SimpleNamespace(groups=conv.groups, padding=conv.padding, strides=conv.strides, dilation=conv.dilation)
    y = conv2d_nchwc(x, w, attrs)
    relu = te.compute(y.shape, lambda *index: tirx.max(y[index], tirx.const(0, "float32")), name="relu")
    return te.create_prim_func([x, w, relu], index_dtype_override="int64")


def blocked(array: np.ndarray, lanes: int) -> np.ndarray:
    n, c, *image = array.shape
    out = aligned((n, c // lanes, *image, lanes), "float32")
    out[...] = np.moveaxis(array.reshape(n, c // lanes, lanes, *image), 2, -1)
    return out


def some_points(space: Space) -> list[Point]:
    """Each value of each knob at least once."""
    points = [dict(zip(space.knobs, values, strict=True)) for values in itertools.product(*space.knobs.values())]
    points = [point for point in points if space.legal(point)]
    left = {(name, value) for point in points for name, value in point.items()}
    chosen: list[Point] = [dict(space.default)]
    while left := left - {item for point in chosen for item in point.items()}:
        chosen.append(max(points, key=lambda point: len(left & set(point.items()))))
    return chosen


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: f"{machine.lanes()} lanes")
@pytest.mark.parametrize("conv", LAYERS)
def test_points_of_every_kind_are_right(conv: Conv, machine: Machine) -> None:
    lanes = machine.lanes()
    random = np.random.default_rng(0)
    x, w = (random.standard_normal(shape).astype(np.float32) for shape in (conv.image, conv.weight))
    expected = blocked(np.maximum(reference(x, w, conv), 0).astype(np.float32), lanes)
    weights = blocked(w.reshape(1, conv.c, *conv.kernel), lanes).reshape(conv.c // lanes, 1, *conv.kernel, 1, lanes)
    function = program(conv, lanes)
    space = depthwise(function, machine)
    assert space is not None
    assert space.default["border"] == ("skipped" if any(conv.padding) else "copied")
    points = some_points(space)
    for point in points if machine is MACHINES[-1] else points[:2]:
        result = aligned(expected.shape, "float32")
        result[...] = np.nan
        run(space.apply(point).mod["main"], machine, blocked(x, lanes), weights, result, threads=2)
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4, err_msg=str(point))


def test_the_copy_of_the_image_is_gone_where_its_border_is_skipped() -> None:
    function = program(Conv(32, 32, h=6, w=8, groups=32), 16)
    guarded = guard_border(function, BLOCK)
    assert guarded is not None
    names = [str(block.name_hint) for block in blocks(guarded)]
    assert BLOCK in names
    assert "pad" not in names
    assert guard_border(guarded, BLOCK) is None


def blocks(function: tirx.PrimFunc) -> list[tvm.s_tir.SBlock]:
    found: list[tvm.s_tir.SBlock] = []
    tvm_ffi.structural_walk(function.body, (tvm.s_tir.SBlock, found.append))
    return found


@pytest.mark.parametrize("border", ["skipped", "copied"])
@pytest.mark.parametrize("rows_outside", [False, True])
def test_nests_count_the_work_of_many_points_at_once(border: str, rows_outside: bool) -> None:
    conv = Conv(32, 32, h=12, w=8, groups=32, strides=(2, 2))
    space = depthwise(program(conv, 16), AVX512)
    assert space is not None
    assert space.nests is not None
    columns = {"strip": np.array([2, 6, 6]), "rows": np.array([1, 1, 2]), "tile_w": np.array([4, 2, 2])}
    total, *rest = space.nests({**columns, "rows_outside": rows_outside, "border": border})
    product = np.prod([np.broadcast_to(loop.extent, 3) for loop in total.loops], axis=0)
    assert np.array_equal(product, np.broadcast_to(total.steps, 3))
    assert len(rest) == (border == "copied")
