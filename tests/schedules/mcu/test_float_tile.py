from pathlib import Path

import numpy as np
import pytest
from tvm import te, tirx, topi

from schedules.machine import Machine
from schedules.mcu import RULES
from schedules.mcu.float_tile import float_tile
from schedules.rule import first_space
from schedules.space import Space
from stack.emit.c_printer import print_function
from tests.stack.emit.printed import run_c, run_tvm, values

M4 = Machine(thumb2=True, dsp=True, fpu=True)
M3 = Machine(thumb2=True)


def image(*shape: int, name: str = "x", dtype: str = "float32") -> te.Tensor:
    return te.placeholder(shape, dtype, name)


def convolution(
    size: tuple[int, int, int], filters: int, kernel: tuple[int, int], stride: int = 1, pad: int = 0, dtype: str = "float32"
) -> tirx.PrimFunc:
    """Convolution, bias, addition of another image and ReLU, as TVM fuses them."""
    height, width, channels = size
    x, w = image(1, *size, dtype=dtype), image(filters, *kernel, channels, name="w", dtype=dtype)
    padded = topi.nn.pad(x, (0, pad, pad, 0), (0, pad, pad, 0)) if pad else x
    rows, columns = ((extent + 2 * pad - taps) // stride + 1 for extent, taps in zip((height, width), kernel, strict=True))
    r, s, k = te.reduce_axis((0, kernel[0])), te.reduce_axis((0, kernel[1])), te.reduce_axis((0, channels))
    shape = (1, rows, columns, filters)
    b, other = image(filters, name="b", dtype=dtype), image(*shape, name="other", dtype=dtype)
    total = te.compute(
        shape, lambda n, i, j, f: te.sum(padded[n, i * stride + r, j * stride + s, k] * w[f, r, s, k], axis=[r, s, k]), "conv2d_nhwc"
    )
    biased = te.compute(shape, lambda n, i, j, f: total[n, i, j, f] + b[f], "T_add")
    added = te.compute(shape, lambda *index: other(*index) + biased(*index), "T_add1")
    return te.create_prim_func([x, w, b, other, topi.nn.relu(added)])


def depthwise(size: tuple[int, int, int], stride: int = 1, pad: int = 1) -> tirx.PrimFunc:
    height, width, channels = size
    x, w = image(1, *size), image(3, 3, channels, 1, name="w")
    padded = topi.nn.pad(x, (0, pad, pad, 0), (0, pad, pad, 0)) if pad else x
    r, s, k = te.reduce_axis((0, 3)), te.reduce_axis((0, 3)), te.reduce_axis((0, 1))
    shape = (1, (height + 2 * pad - 3) // stride + 1, (width + 2 * pad - 3) // stride + 1, channels)

    def pixel(n: tirx.Var, i: tirx.Var, j: tirx.Var, f: tirx.Var) -> tirx.Expr:
        return te.sum(padded[n, i * stride + r, j * stride + s, f + k] * w[r, s, f, k], axis=[r, s, k])

    return te.create_prim_func([x, w, topi.nn.relu(te.compute(shape, pixel, "group_conv2d_nhwc"))])


def dense(rows: int, inner: int, columns: int, turned: bool) -> tirx.PrimFunc:
    x = image(rows, inner)
    w = image(columns, inner, name="w") if turned else image(inner, columns, name="w")
    return te.create_prim_func([x, w, topi.nn.dense(x, w) if turned else topi.matmul(x, w)])


PROGRAMS = {
    "3x3": convolution((8, 8, 4), 8, (3, 3), pad=1),
    "3x3, stride 2": convolution((9, 9, 3), 6, (3, 3), stride=2, pad=1),
    "1x1": convolution((4, 6, 8), 12, (1, 1)),
    "1x1, stride 2": convolution((8, 8, 4), 4, (1, 1), stride=2),
    "5x3 inside": convolution((9, 7, 2), 5, (5, 3)),
    "depthwise": depthwise((8, 8, 6)),
    "depthwise, stride 2": depthwise((9, 9, 4), stride=2),
    "depthwise inside": depthwise((8, 7, 5), pad=0),
    "dense": dense(1, 20, 10, turned=False),
    "dense, rows of weights": dense(3, 20, 8, turned=True),
}


def space(program: tirx.PrimFunc) -> Space:
    found = float_tile(program, M4)
    assert found
    return found


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_products_are_right_with_default_and_largest_tiles(program: tirx.PrimFunc, tmp_path: Path) -> None:
    arrays = values(program.params[:-1])
    expected = run_tvm(program, arrays)
    found = space(program)
    largest = {knob: choices[-1] for knob, choices in found.knobs.items()}
    for point in [found.default, largest]:
        assert np.allclose(run_c(found.apply(point).mod["main"], arrays, tmp_path), expected, rtol=1e-4, atol=1e-4), point


def test_default_tiles_fit_in_registers() -> None:
    assert dict(space(PROGRAMS["3x3"]).default) == {"pixels": 4, "filters": 4}
    assert dict(space(PROGRAMS["dense"]).default)["pixels"] == 1


def test_each_load_of_a_tile_is_written_once() -> None:
    found = space(convolution((8, 8, 4), 8, (1, 1)))
    source = print_function(found.apply({"pixels": 4, "filters": 2}).mod["main"], "f").source
    loop = source[source.index("for (int ax6") :].split("}")[0]
    assert (loop.count("= x["), loop.count("= w["), loop.count("stack_macf")) == (4, 2, 8)


def test_borders_are_copied_row_by_row() -> None:
    found = space(PROGRAMS["3x3"])
    source = print_function(found.apply(found.default).mod["main"], "f").source
    assert "memcpy(padded + ax1 * 40 + 4, x + i1 * 32 + ax1 * 32 - 32, 128);" in source
    assert "memset(padded + ax1 * 40, 0, 160);" in source


def test_only_floats_in_hardware_are_tiled() -> None:
    assert float_tile(PROGRAMS["3x3"], M3) is None
    assert float_tile(convolution((8, 8, 4), 8, (3, 3), pad=1, dtype="int32"), M4) is None
    x = image(4, 8)
    assert float_tile(te.create_prim_func([x, topi.sum(x, axis=1)]), M4) is None


def test_the_rules_of_microcontrollers_ask_it_before_the_last() -> None:
    assert first_space(RULES, PROGRAMS["dense"], M4).rule == "float_tile"
    assert first_space(RULES, PROGRAMS["dense"], M3).rule == "fallback"
