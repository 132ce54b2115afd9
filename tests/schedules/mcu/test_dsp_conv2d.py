"""Convolutions for cores with the DSP extension, run on this machine: the same bits as TFLite Micro at every point tried."""

import json
import shutil
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from schedules.integer import Conv2D
from schedules.machine import Machine
from schedules.mcu.dsp_conv2d import dsp_conv2d
from schedules.mcu.intrinsics import used
from schedules.space import Point
from tests.schedules.mcu import mve_firmware, reference
from tests.schedules.mcu.conv2d_cases import compiled, constants, conv2d, images, pointwise, program, run, space

LAYERS = {
    "pointwise": pointwise(7, 16, 8),
    "pointwise, odd everything": pointwise(5, 7, 5),
    "pointwise, one channel": pointwise(4, 1, 3),
    "two pixels": pointwise(2, 12, 6),
    "dense": pointwise(1, 64, 8),
    "dense, odd": pointwise(1, 35, 3),
    "dense, ten filters": pointwise(1, 64, 10),
    "dense, long": pointwise(1, 640, 12, weight_sum=1 << 17),
    "strided pointwise": conv2d((6, 6, 8), 4, (1, 1), (2, 2)),
    "square": conv2d((6, 5, 4), 6, pad=(1, 1, 1, 1)),
    "square, no border": conv2d((6, 5, 4), 6),
    "three channels": conv2d((9, 9, 3), 8, strides=(2, 2), pad=(0, 0, 1, 1)),
    "one channel": conv2d((13, 10, 1), 6, (10, 4), (2, 2), (4, 1, 5, 1)),
    "five channels": conv2d((5, 5, 5), 3, (2, 3), (1, 2), (1, 0, 0, 2)),
    "dilated": conv2d((9, 8, 4), 4, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2)),
    "dilated, odd": conv2d((9, 8, 3), 5, (2, 3), (2, 1), (1, 2, 1, 2), (3, 2)),
    "one word a row, dilated": conv2d((9, 7, 1), 4, (3, 4), (1, 2), (1, 2, 2, 3), (3, 1)),
    "one word a row of two channels": conv2d((5, 6, 2), 4, (3, 2), pad=(1, 1, 1, 0), batch=2),
    "one row, dilated": conv2d((1, 12, 4), 3, (1, 3), dilation=(1, 3)),
    "one row, dilated, padded": conv2d((1, 12, 5), 3, (1, 3), pad=(0, 2, 0, 3), dilation=(1, 2)),
    "one row, strided": conv2d((1, 12, 3), 3, (1, 3), (1, 2), pad=(0, 1, 0, 1)),
    "wide rows": conv2d((4, 11, 8), 6, (3, 3), pad=(1, 1, 1, 1), x_zero=100),
    "wide rows, stride 2": conv2d((5, 16, 12), 4, (3, 3), (2, 2), (0, 0, 1, 1)),
    "wide rows, rest": conv2d((4, 14, 3), 4, (3, 3), (1, 1), (1, 1, 1, 1)),
    "large window": conv2d((9, 12, 4), 4, (9, 9), (1, 1), (4, 4, 4, 4)),
    "larger than the image": conv2d((2, 3, 4), 4, (5, 5), (1, 1), (2, 2, 2, 2)),
    "border beyond the kernel": conv2d((3, 3, 4), 2, (2, 2), (1, 1), (3, 3, 3, 3)),
    "batch": conv2d((4, 4, 4), 4, pad=(1, 1, 1, 1), batch=3),
    "batch, pointwise": conv2d((2, 2, 4), 4, (1, 1), batch=2),
    "left shifts": conv2d((4, 4, 4), 12, (2, 2), right_shifts=False),
    "-128 among the weights": conv2d((4, 4, 4), 8, (2, 2), narrow=False),
    "large sums": pointwise(4, 600, 4, weight_sum=1 << 17),
    "largest shared sums": pointwise(4, 256, 6, weight_sum=1 << 15),
    "clipped from zero": conv2d((4, 4, 4), 9, low=5),
    "clipped from the lowest": pointwise(9, 4, 33, y_zero=-128),
    "clipped": conv2d((4, 4, 4), 4, low=-7, high=90),
}


@pytest.mark.parametrize("op", LAYERS.values(), ids=LAYERS)
def test_any_layer_to_the_last_bit(op: Conv2D, tmp_path: Path) -> None:
    """At the default point, and at a few others that have every value of every knob."""
    offered = space(op)
    count = max(len(values) for values in offered.knobs.values())
    points = [{knob: values[index % len(values)] for knob, values in offered.knobs.items()} for index in range(count)]
    points.append(dict(offered.default))
    x, values = images(op), constants(op)
    expected = reference.run(op, x, *values)
    for point, kernel in zip(points, compiled(op, points, tmp_path), strict=True):
        assert np.array_equal(run(op, point, kernel, x, values), expected), point


def overlap(op: Conv2D, point: Point) -> int:
    least, exact = json.loads(str(space(op).apply(point).mod["main"].attrs["stack.overlap"]))["0"]
    assert not exact
    return int(least)


def test_scratch_memory_grows_no_larger_than_the_images() -> None:
    wide = space(pointwise(1, 640, 128, weight_sum=1 << 15))
    assert wide.default["direct"]
    assert int(wide.apply(wide.default).mod["main"].attrs["stack.scratch"]) == 0
    assert space(conv2d((8, 8, 64), 64, pad=(1, 1, 1, 1))).default["tile"] == "3x2"
    assert space(conv2d((3, 3, 256), 16, pad=(1, 1, 1, 1))).default["tile"] == "1x4"


def test_filters_outside_need_no_order_of_pixels_and_output_anywhere_or_apart() -> None:
    """All pixels are read before anything is written; read directly, they are needed until the end."""
    op = pointwise(8, 16, 8)
    size = op.batch * op.height * op.width * op.channels
    assert overlap(op, {**space(op).default, "direct": False, "order": "filters"}) == -size
    attributes = space(op).apply({**space(op).default, "direct": True, "order": "filters"}).mod["main"].attrs
    assert json.loads(str(attributes["stack.overlap"])) == {}


def test_no_order_of_loops_takes_more_memory_than_its_images() -> None:
    offered = space(conv2d((8, 8, 64), 64, pad=(1, 1, 1, 1)))
    assert offered.legal(offered.default)
    assert not offered.legal({**offered.default, "order": "filters"})


def test_the_rule_declines_what_it_cannot_compute() -> None:
    op = pointwise(4, 8, 8)
    assert dsp_conv2d(program(op), Machine(thumb2=True)) is None
    assert dsp_conv2d(program(op).without_attr("stack.integer"), Machine(dsp=True)) is None


@pytest.mark.parametrize("name", ["pointwise", "square", "batch", "strided pointwise", "dense", "border beyond the kernel"])
def test_the_output_may_lie_over_the_input_as_far_as_the_kernel_says(name: str, tmp_path: Path) -> None:
    op = LAYERS[name]
    offered = space(op)
    x, values = images(op), constants(op)
    expected = reference.run(op, x, *values)
    points = [{**offered.default, "direct": direct} for direct in offered.knobs["direct"]]
    points += [{**offered.default, "direct": False, "order": order} for order in offered.knobs["order"][1:]]
    for point, kernel in zip(points, compiled(op, points, tmp_path), strict=True):
        for below in (least := overlap(op, point), least + 5):
            assert np.array_equal(run(op, point, kernel, x, values, below=below), expected)


@pytest.mark.parametrize("name", ["pointwise", "square", "batch", "three channels"])
def test_it_says_no_less_than_it_could(name: str, tmp_path: Path) -> None:
    op = LAYERS[name]
    x, values, point = images(op), constants(op), space(op).default
    found = run(op, point, *compiled(op, [point], tmp_path), x, values, below=overlap(op, point) - 1)
    assert not np.array_equal(found, reference.run(op, x, *values))


def test_a_pointwise_layer_that_keeps_its_channels_computes_in_place(tmp_path: Path) -> None:
    op = pointwise(8, 8, 8)
    x, values, point = images(op), constants(op), space(op).default
    assert overlap(op, point) == 0
    found = run(op, point, *compiled(op, [point], tmp_path), x, values, below=0)
    assert np.array_equal(found, reference.run(op, x, *values))


@pytest.mark.parametrize(("board", "step"), [("mps2-an386", 1), ("mps2-an505", 8)])
def test_the_instructions_compute_what_their_portable_forms_do(board: str, step: int, tmp_path: Path) -> None:
    """On an M4, and some on an M33, output over input: layers at their default point and at one that turns through all knobs."""
    mve_firmware.need_tools()
    firmware, expected = mve_firmware.Firmware(), []
    for number, op in enumerate([*LAYERS.values()][::step]):
        offered, x, constants_ = space(op), images(op), constants(op)
        for point in (offered.default, {knob: values[(number + 1) % len(values)] for knob, values in offered.knobs.items()}):
            firmware.add(offered, point, x, constants_, op.pixels * op.filters, overlapped=True)
            expected.append(reference.run(op, x, *constants_))
    for found, wanted in zip(firmware.run(tmp_path, board), expected, strict=True):
        assert np.array_equal(found, wanted.ravel())


COMPILERS = {
    "gcc": ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb"],
    "clang": ["clang", "--target=arm-none-eabi", "-mcpu=cortex-m4", "-mthumb", "-ffreestanding"],
}


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("optimise", ["-O0", "-Os"])
def test_compilers_find_registers_for_every_step(compiler: str, optimise: str, tmp_path: Path) -> None:
    if not shutil.which(COMPILERS[compiler][0]):
        pytest.skip(f"{COMPILERS[compiler][0]} is not installed")
    kernels: list[str] = []
    for name in ("square", "one channel", "dense", "-128 among the weights"):
        offered = space(LAYERS[name])
        for tile, direct, order in product(*(offered.knobs[knob] for knob in ("tile", "direct", "order"))):
            point = {**offered.default, "tile": tile, "direct": direct, "order": order}
            source = str(offered.apply(point).mod["main"].attrs["stack.c"])
            kernels.append(source.replace("static void KERNEL", f"void kernel{len(kernels)}"))
    head = [
        "#include <stddef.h>",
        "#include <stdint.h>",
        "void *memcpy(void *, const void *, size_t);",
        "void *memset(void *, int, size_t);",
    ]
    file = tmp_path / "kernels.c"
    file.write_text("\n".join([*head, *used(kernels), *kernels]))
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]  # some only serve the portable forms
    subprocess.run([*COMPILERS[compiler], optimise, *strict, "-c", file, "-o", tmp_path / "kernels.o"], check=True)
