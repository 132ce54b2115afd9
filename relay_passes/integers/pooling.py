"""Average and maximum over windows of NHWC images. Those of TFLite have one scale and zero point before and after; an average between
others, which ONNX allows, is computed as a mean is.

average:  round(sum of x / number of pixels inside the image), ties away from zero, then clip
maximum:  the same without arithmetic
"""

from typing import Any

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.fixed_point import clamp
from relay_passes.integers.intrinsics import requantize
from relay_passes.integers.island import Island
from relay_passes.integers.programs import placeholder
from relay_passes.integers.reduction import mean_factor
from relay_passes.rewrite import shape


class Window:
    """The window over `x` whose result is at [n, h, v, c], and which of its pixels lie inside the image."""

    def __init__(self, x: te.Tensor, attrs: Any, out_shape: tuple[int, ...]) -> None:
        self.x = x
        self.height, self.width = int(x.shape[1]), int(x.shape[2])
        self.size = tuple(int(item) for item in attrs.pool_size)
        self.strides = tuple(int(item) for item in attrs.strides)
        self.top, self.left = (int(item) for item in list(attrs.padding)[:2])
        self.rows, self.columns = te.reduce_axis((0, self.size[0]), "r"), te.reduce_axis((0, self.size[1]), "s")
        last_row = (out_shape[1] - 1) * self.strides[0] + self.size[0] - self.top
        last_column = (out_shape[2] - 1) * self.strides[1] + self.size[1] - self.left
        self.reaches_out = bool(self.top or self.left or last_row > self.height or last_column > self.width)

    def pixel(self, n: tirx.Var, h: tirx.Var, v: tirx.Var, c: tirx.Var, outside: int) -> tirx.Expr:
        row = h * self.strides[0] + self.rows - self.top
        column = v * self.strides[1] + self.columns - self.left
        value = self.x[n, row, column, c]
        if not self.reaches_out:
            return value
        inside = te.all(row >= 0, row < self.height, column >= 0, column < self.width)
        return te.if_then_else(inside, value, tirx.const(outside, self.x.dtype))

    def count(self, h: tirx.Var, v: tirx.Var) -> tirx.Expr:
        """How many pixels of the window lie inside the image."""
        if not self.reaches_out:
            return tirx.const(self.size[0] * self.size[1], "int32")

        def extent(at: tirx.Var, stride: int, before: int, size: int, whole: int) -> tirx.Expr:
            start = at.astype("int32") * stride - before
            return te.min(start + size, tirx.const(whole, "int32")) - te.max(start, tirx.const(0, "int32"))

        rows = extent(h, self.strides[0], self.top, self.size[0], self.height)
        return rows * extent(v, self.strides[1], self.left, self.size[1], self.width)


def is_plain(island: Island) -> bool:
    attrs = island.call.attrs
    layouts = (str(attrs.layout), str(attrs.out_layout))
    return island.uniform and layouts == ("NHWC", "NHWC") and all(int(item) == 1 for item in attrs.dilation)


def average_pool(island: Island) -> relax.Expr | None:
    (x,) = island.inputs
    attrs = island.call.attrs
    if not is_plain(island) or x.dtype != island.output.dtype:
        return None
    data = placeholder(x.value, "x")
    window = Window(data, attrs, island.shape)
    same = x.same(island.output)
    if window.reaches_out and (bool(attrs.count_include_pad) or not same):
        return None
    pixels = window.size[0] * window.size[1]
    factor = mean_factor(float(np.float64(x.one_scale) / np.float64(island.output.one_scale)), pixels)

    def total(n: tirx.Var, h: tirx.Var, v: tirx.Var, c: tirx.Var) -> tirx.Expr:
        return te.sum(window.pixel(n, h, v, c, outside=0).astype("int32"), axis=[window.rows, window.columns])

    def rescaled(*index: tirx.Var) -> tirx.Expr:
        value = requantize(acc[index] - x.one_zero * pixels, *factor) + island.output.one_zero
        return clamp(value, island.low, island.high).astype(x.dtype)

    def mean(n: tirx.Var, h: tirx.Var, v: tirx.Var, c: tirx.Var) -> tirx.Expr:
        value, count = acc[n, h, v, c], window.count(h, v)
        half = tirx.truncdiv(count, tirx.const(2, "int32"))
        rounded = tirx.truncdiv(tirx.Select(value > 0, value + half, value - half), count)
        return clamp(rounded, island.low, island.high).astype(x.dtype)

    acc = te.compute(island.shape, total, name="acc")
    result = te.compute(island.shape, mean if same else rescaled, name="average_pool")
    return island.programs.call("average_pool", [data, result], [x.value])


def max_pool(island: Island) -> relax.Expr | None:
    (x,) = island.inputs
    if not is_plain(island) or not x.same(island.output):
        return None
    data = placeholder(x.value, "x")
    window = Window(data, island.call.attrs, island.shape)
    least = int(tirx.min_value(x.dtype).value)

    def most(n: tirx.Var, h: tirx.Var, v: tirx.Var, c: tirx.Var) -> tirx.Expr:
        return te.max(window.pixel(n, h, v, c, outside=least), axis=[window.rows, window.columns])

    acc = te.compute(shape(island.call), most, name="max_pool")
    tensors = [data, acc]
    if (island.low, island.high) != (least, int(tirx.max_value(x.dtype).value)):
        tensors = [data, te.compute(island.shape, lambda *index: clamp(acc[index], island.low, island.high), name="clip")]
    return island.programs.call("max_pool", tensors, [x.value])


LOWERINGS = {"relax.nn.avg_pool2d": average_pool, "relax.nn.max_pool2d": max_pool}
