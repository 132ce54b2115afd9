"""Convolutions, depthwise convolutions and dense layers over int8 weights, with requantisation per filter.

    acc = bias + sum of x * w,     y = clip(requantize(acc, multiplier, shift) + y_zero, low, high)

Activations are int8. Where they are int16, sums have 64 bits and TFLite rounds once, with 16 bits of the multiplier; a dense layer from
int8 to int16 is a step of a recurrent layer.

The zero point of x is folded into the bias, which is exact: beyond the border x is its zero point. A zero point of the weights is folded
into them, which makes them int16 where they need a ninth bit; TFLite has none. A dense layer is a 1x1 convolution with a pixel for each
row. A pad of the image by its zero point becomes one of the convolution, which needs no copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.fixed_point import Array, clamp, half_multiplier, quantize_multiplier, requantize_wide
from relay_passes.integers.intrinsics import requantize
from relay_passes.integers.island import Island, Operand
from relay_passes.integers.programs import placeholder
from relay_passes.rewrite import Graph, constant, op_name, shape
from schedules.integer import Conv2D, Depthwise

INT8 = np.iinfo("int8")
KINDS = {("int8", "int8"), ("int16", "int16"), ("int8", "int16")}


def symmetric_weights(w: Operand) -> Array | None:
    """The weights with 0 as their zero point: int8 where they fit, otherwise int16, which no kernel but the plain one reads."""
    values = w.array
    if values is None:
        return None
    zero = w.zero.reshape([-1 if axis == w.axis else 1 for axis in range(values.ndim)]) if w.zero.size > 1 else w.zero.reshape(())
    wide = values.astype("int32") - zero
    fits = wide.size == 0 or (wide.min() >= INT8.min and wide.max() <= INT8.max)
    return wide.astype("int8" if fits else "int16") if values.dtype == np.int8 else None


def effective_scale(island: Island, filters: int) -> Array:
    """The factor from accumulator to result, for each filter, in float64."""
    x, w = island.inputs[:2]
    per_filter = np.broadcast_to(w.scale.reshape(-1).astype("float64"), (filters,))
    return np.float64(x.one_scale) * per_filter / np.float64(island.output.one_scale)


def power_of_two_from(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()


def body(x: te.Tensor, w: te.Tensor, op: Conv2D | Depthwise, kind: str) -> te.Tensor:
    """The sums of products over an image [batch, height, width, channels], of the dtype `kind`."""
    rows, columns = te.reduce_axis((0, op.kernel_h), "r"), te.reduce_axis((0, op.kernel_w), "s")
    channels = te.reduce_axis((0, op.channels), "c")
    depthwise = isinstance(op, Depthwise)
    top, left, _bottom, _right = op.pad
    border = tirx.const(op.x_zero, x.dtype)

    def product(n: tirx.Var, h: tirx.Var, v: tirx.Var, f: tirx.Var) -> tirx.Expr:
        row = h * op.strides[0] + rows * op.dilation[0] - top
        column = v * op.strides[1] + columns * op.dilation[1] - left
        pixel = x[n, row, column, f // (op.filters // op.channels) if depthwise else channels]
        if op.padded:
            inside = te.all(row >= 0, row < op.height, column >= 0, column < op.width)
            pixel = te.if_then_else(inside, pixel, border)
        weight = w[0, rows, columns, f] if depthwise else w[f, rows, columns, channels]
        return te.sum(pixel.astype(kind) * weight.astype(kind), axis=[rows, columns] if depthwise else [rows, columns, channels])

    return te.compute((op.batch, op.out_height, op.out_width, op.filters), product, name="acc")


def dense_body(x: te.Tensor, w: te.Tensor, filters: int, kind: str) -> te.Tensor:
    """The sums of products over rows [..., channels] of any number of dimensions, of the dtype `kind`."""
    channels = te.reduce_axis((0, int(x.shape[-1])), "c")

    def product(*index: tirx.Var) -> tirx.Expr:
        weight = w[index[-1], 0, 0, channels]
        return te.sum(x[(*index[:-1], channels)].astype(kind) * weight.astype(kind), axis=channels)

    return te.compute((*[int(extent) for extent in x.shape[:-1]], filters), product, name="acc")


def rescaled(acc: te.Tensor, scales: Sequence[te.Tensor], op: Conv2D | Depthwise, name: str, dtype: str = "int8") -> te.Tensor:
    """The result from its sums; `scales` are bias, multiplier and shift of each filter."""
    scale = requantize_wide if str(acc.dtype) == "int64" else requantize

    def result(*index: tirx.Var) -> tirx.Expr:
        start, multiplier, shift = (tensor[index[-1]] for tensor in scales)
        return clamp(scale(acc[index] + start, multiplier, shift) + op.y_zero, op.low, op.high).astype(dtype)

    return te.compute(acc.shape, result, name=name)


@dataclass(frozen=True)
class Window:
    """Where the weights lie over the image."""

    size: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, ...] = (0, 0, 0, 0)  # top, left, bottom, right

    def extent(self, size: int, axis: int) -> int:
        """Of the result, from that of the image."""
        padded = size + self.pad[axis] + self.pad[axis + 2]
        return (padded - self.dilation[axis] * (self.size[axis] - 1) - 1) // self.strides[axis] + 1


def emit(island: Island, kind: type[Conv2D] | type[Depthwise], weights: Array, window: Window) -> relax.Expr | None:
    """The call, for weights as `kind` wants them. A dense layer keeps the shapes of its rows, which are pixels to the rules."""
    value = island.inputs[0].value
    dense = op_name(island.call) == "relax.matmul"
    batch, height, width, channels = (1, prod(shape(value)[:-1]), 1, shape(value)[-1]) if dense else shape(value)
    per_filter = (weights.reshape(-1, weights.shape[-1]).T if kind is Depthwise else weights.reshape(weights.shape[0], -1)).astype("int64")
    filters, x_zero = per_filter.shape[0], island.inputs[0].one_zero
    bias = np.zeros(filters, "int64") if island.bias is None else np.asarray(island.bias.array, "int64").reshape(-1)
    if bias.size != filters:
        return None
    multiplier, shifts = quantize_multiplier(effective_scale(island, filters))
    shifts = np.where(multiplier == 0, -1, shifts).astype("int32")  # gives 0 in any case, so let it not cost the layer `right_shifts`
    op = kind(
        batch=batch,
        height=height,
        width=width,
        channels=channels,
        out_height=window.extent(height, 0),
        out_width=window.extent(width, 1),
        filters=filters,
        kernel_h=window.size[0],
        kernel_w=window.size[1],
        strides=window.strides,
        dilation=window.dilation,
        pad=(window.pad[0], window.pad[1], window.pad[2], window.pad[3]),
        x_zero=x_zero,
        y_zero=island.output.one_zero,
        low=island.low,
        high=island.high,
        right_shifts=bool((shifts < 0).all()),
        narrow=bool(per_filter.min() > INT8.min),
        weight_sum=power_of_two_from(int(np.abs(per_filter).sum(axis=1).max())),
    )
    wide = island.inputs[0].dtype == "int16"
    sums = "int64" if wide else "int32"
    x, w = placeholder(value, "x"), te.placeholder(weights.shape, str(weights.dtype), name="w")
    scales = [te.placeholder((filters,), dtype, name=item) for item, dtype in (("bias", sums), ("multiplier", "int32"), ("shift", "int32"))]
    acc = dense_body(x, w, filters, sums) if dense else body(x, w, op, sums)

    name = "dense" if dense else "depthwise" if kind is Depthwise else "conv2d"
    folded = (bias - x_zero * per_filter.sum(axis=1)).astype(sums)
    if wide:
        multiplier, shifts = half_multiplier(multiplier), 15 - shifts
    arguments = [value, constant(weights), constant(folded), constant(multiplier), constant(shifts)]
    known = op if {island.inputs[0].dtype, island.output.dtype, str(weights.dtype)} == {"int8"} else None
    return island.programs.call(name, [x, w, *scales, rescaled(acc, scales, op, name, island.output.dtype)], arguments, known)


def is_known(island: Island) -> bool:
    """int8 or int16 in and out, one scale each; int16 without a zero point, as TFLite has it."""
    x, y = island.inputs[0], island.output
    symmetric = all(item.one_zero == 0 for item in (x, y) if item.dtype == "int16")
    return (x.dtype, y.dtype) in KINDS and x.uniform and y.uniform and symmetric


def without_pad(x: Operand, graph: Graph) -> tuple[Operand, tuple[int, int, int, int]]:
    """`x` and no pad, or the image that a pad by the zero point reads, and how much it adds at the top, left, bottom and right."""
    pad = graph.source(x.value)
    if op_name(pad) != "relax.nn.pad" or str(pad.attrs.pad_mode) != "constant" or float(pad.attrs.pad_value) != x.one_zero:
        return x, (0, 0, 0, 0)
    widths = [int(width) for width in pad.attrs.pad_width]
    if any(widths[:2] + widths[6:]):
        return x, (0, 0, 0, 0)
    return replace(x, value=pad.args[0]), (widths[2], widths[4], widths[3], widths[5])


def conv2d(island: Island) -> relax.Expr | None:
    attrs = island.call.attrs
    x, w = island.inputs
    weights = symmetric_weights(w)
    layouts = (str(attrs.data_layout), str(attrs.out_layout))
    if weights is None or not is_known(island) or layouts != ("NHWC", "NHWC"):
        return None
    kernel_layout = str(attrs.kernel_layout)
    if w.scale.size > 1 and w.axis != kernel_layout.index("O"):
        return None
    weights = weights.transpose([kernel_layout.index(letter) for letter in "OHWI"])
    _, kernel_h, kernel_w, per_group = weights.shape
    channels, groups = shape(x.value)[3], int(attrs.groups)
    image, around = without_pad(x, island.graph)
    island = replace(island, inputs=[image, w])
    window = Window(
        size=(kernel_h, kernel_w),
        strides=(int(attrs.strides[0]), int(attrs.strides[1])),
        dilation=(int(attrs.dilation[0]), int(attrs.dilation[1])),
        pad=tuple(int(own) + more for own, more in zip(attrs.padding, around, strict=True)),
    )
    if groups == channels > 1 == per_group:
        return emit(island, Depthwise, np.ascontiguousarray(weights.transpose(3, 1, 2, 0)), window)
    return emit(island, Conv2D, np.ascontiguousarray(spread_groups(weights, channels) if groups > 1 else weights), window)


def spread_groups(weights: Array, channels: int) -> Array:
    """Weights [filters, h, w, channels / groups] over all channels, zero outside the group of each filter."""
    filters, kernel_h, kernel_w, per_group = weights.shape
    groups = channels // per_group
    spread = np.zeros((filters, kernel_h, kernel_w, channels), weights.dtype)
    for group in range(groups):
        mine = slice(group * filters // groups, (group + 1) * filters // groups)
        spread[mine, :, :, group * per_group : (group + 1) * per_group] = weights[mine]
    return spread


def dense(island: Island) -> relax.Expr | None:
    """matmul(x [..., channels], w [channels, filters]) with constant weights."""
    w = island.inputs[1]
    weights = symmetric_weights(w)
    if weights is None or weights.ndim != 2 or not is_known(island) or (w.scale.size > 1 and w.axis != 1):
        return None
    return emit(island, Conv2D, np.ascontiguousarray(weights.T)[:, None, None, :], Window())


LOWERINGS = {"relax.nn.conv2d": conv2d}
