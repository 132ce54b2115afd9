"""Convolutions, depthwise convolutions and dense layers over int8, with requantisation per filter.

    acc = bias + sum of x * w,     y = clip(requantize(acc, multiplier, shift) + y_zero, low, high)

The zero point of x is folded into the bias, which is exact: beyond the border x is its zero point. A zero point of the weights is folded
into them where they stay int8; TFLite has none. A dense layer is a 1x1 convolution with a pixel for each row.
"""

from math import prod

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.fixed_point import Array, clamp, quantize_multiplier
from relay_passes.integers.intrinsics import requantize
from relay_passes.integers.island import Island, Operand
from relay_passes.rewrite import constant, shape
from schedules.integer import Conv2D, Depthwise

INT8 = np.iinfo("int8")


def symmetric_weights(w: Operand) -> Array | None:
    """The weights as int8 whose zero point is 0; None where they do not fit."""
    values = w.array
    if values is None:
        return None
    zero = w.zero.reshape([-1 if axis == w.axis else 1 for axis in range(values.ndim)]) if w.zero.size > 1 else w.zero.reshape(())
    wide = values.astype("int32") - zero
    return wide.astype("int8") if wide.min() >= INT8.min and wide.max() <= INT8.max else None


def effective_scale(island: Island, filters: int, dense: bool) -> Array:
    """The factor from accumulator to result, for each filter, in the precision in which TFLite computes it."""
    x, w = island.inputs[:2]
    output = np.float64(island.output.one_scale)
    if dense and w.scale.size == 1:
        return np.full(filters, np.float64(np.float32(x.scale.reshape(())) * np.float32(w.scale.reshape(()))) / output)
    per_filter = np.broadcast_to(w.scale.reshape(-1).astype("float64"), (filters,))
    return np.float64(x.one_scale) * per_filter / output


def power_of_two_from(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()


def body(x: te.Tensor, w: te.Tensor, bias: te.Tensor, multiplier: te.Tensor, shift: te.Tensor, op: Conv2D | Depthwise) -> te.Tensor:
    """What the rules of schedules/mcu/ compute faster."""
    rows, columns = te.reduce_axis((0, op.kernel_h), "r"), te.reduce_axis((0, op.kernel_w), "s")
    channels = te.reduce_axis((0, op.channels), "c")
    depthwise = isinstance(op, Depthwise)
    top, left, _bottom, _right = op.pad
    border = tirx.const(op.x_zero, "int8")

    def product(n: tirx.Var, h: tirx.Var, v: tirx.Var, f: tirx.Var) -> tirx.Expr:
        row = h * op.strides[0] + rows * op.dilation[0] - top
        column = v * op.strides[1] + columns * op.dilation[1] - left
        pixel = x[n, row, column, f // (op.filters // op.channels) if depthwise else channels]
        if op.padded:
            inside = te.all(row >= 0, row < op.height, column >= 0, column < op.width)
            pixel = te.if_then_else(inside, pixel, border)
        weight = w[0, rows, columns, f] if depthwise else w[f, rows, columns, channels]
        return te.sum(pixel.astype("int32") * weight.astype("int32"), axis=[rows, columns] if depthwise else [rows, columns, channels])

    def result(n: tirx.Var, h: tirx.Var, v: tirx.Var, f: tirx.Var) -> tirx.Expr:
        scaled = requantize(acc[n, h, v, f] + bias[f], multiplier[f], shift[f])
        return clamp(scaled + op.y_zero, op.low, op.high).astype("int8")

    extents = (op.batch, op.out_height, op.out_width, op.filters)
    acc = te.compute(extents, product, name="acc")
    return te.compute(extents, result, name="depthwise" if depthwise else "conv2d")


def emit(
    island: Island, x: relax.Expr, weights: Array, window: tuple[int, int], geometry: dict[str, tuple[int, ...]], depthwise: bool, name: str
) -> relax.Expr | None:
    """The call for x [batch, height, width, channels] and weights laid out as the program wants them."""
    batch, height, width, channels = shape(x)
    per_filter = weights.reshape(-1, weights.shape[-1]).T if depthwise else weights.reshape(weights.shape[0], -1)
    filters = per_filter.shape[0]
    wide = per_filter.astype("int64")
    quantized = island.inputs[0]
    bias = np.zeros(filters, "int64") if island.bias is None else np.asarray(island.bias.array, "int64").reshape(-1)
    if bias.size != filters:
        return None
    folded = (bias - quantized.one_zero * wide.sum(axis=1)).astype("int32")
    multiplier, shifts = quantize_multiplier(effective_scale(island, filters, name == "dense"))
    top, left, bottom, right = geometry["pad"]
    strides, dilation = geometry["strides"], geometry["dilation"]
    kind = Depthwise if depthwise else Conv2D
    op = kind(
        batch=batch,
        height=height,
        width=width,
        channels=channels,
        out_height=(height + top + bottom - dilation[0] * (window[0] - 1) - 1) // strides[0] + 1,
        out_width=(width + left + right - dilation[1] * (window[1] - 1) - 1) // strides[1] + 1,
        filters=filters,
        kernel_h=window[0],
        kernel_w=window[1],
        strides=(strides[0], strides[1]),
        dilation=(dilation[0], dilation[1]),
        pad=(top, left, bottom, right),
        x_zero=quantized.one_zero,
        y_zero=island.output.one_zero,
        low=island.low,
        high=island.high,
        right_shifts=bool((shifts < 0).all()),
        narrow=bool(wide.min() > INT8.min),
        weight_sum=power_of_two_from(int(np.abs(wide).sum(axis=1).max())),
    )
    tensors = [
        te.placeholder((batch, height, width, channels), "int8", name="x"),
        te.placeholder(weights.shape, "int8", name="w"),
        *[te.placeholder((filters,), "int32", name=item) for item in ("bias", "multiplier", "shift")],
    ]
    arguments = [x, constant(weights), constant(folded), constant(multiplier), constant(shifts)]
    return island.programs.call(name, [*tensors, body(*tensors, op)], arguments, op)


def is_int8(island: Island) -> bool:
    """int8 in and out, one scale each, and weights whose scales run along nothing but the filters."""
    return island.inputs[0].dtype == island.output.dtype == "int8" and island.inputs[0].uniform and island.output.uniform


def conv2d(island: Island) -> relax.Expr | None:
    attrs = island.call.attrs
    x, w = island.inputs
    weights = symmetric_weights(w)
    layouts = (str(attrs.data_layout), str(attrs.out_layout))
    if weights is None or not is_int8(island) or layouts != ("NHWC", "NHWC"):
        return None
    kernel_layout = str(attrs.kernel_layout)
    if w.scale.size > 1 and w.axis != kernel_layout.index("O"):
        return None
    weights = weights.transpose([kernel_layout.index(letter) for letter in "OHWI"])
    _, kernel_h, kernel_w, per_group = weights.shape
    channels, groups = shape(x.value)[3], int(attrs.groups)
    depthwise = groups == channels and per_group == 1 and groups > 1
    if groups > 1 and not depthwise:
        weights = spread_groups(weights, channels)
    geometry = {
        "pad": tuple(int(item) for item in attrs.padding),
        "strides": tuple(int(item) for item in attrs.strides),
        "dilation": tuple(int(item) for item in attrs.dilation),
    }
    if depthwise:
        weights = np.ascontiguousarray(weights.transpose(3, 1, 2, 0))
    name = "depthwise" if depthwise else "conv2d"
    return emit(island, x.value, np.ascontiguousarray(weights), (kernel_h, kernel_w), geometry, depthwise, name)


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
    x, w = island.inputs
    weights = symmetric_weights(w)
    if weights is None or weights.ndim != 2 or not is_int8(island) or (w.scale.size > 1 and w.axis != 1):
        return None
    channels, filters = weights.shape
    rows = prod(shape(x.value)[:-1])
    image = relax.op.reshape(x.value, (1, rows, 1, channels))
    image = island.programs.builder.normalize(image)
    filters_first = np.ascontiguousarray(weights.T).reshape(filters, 1, 1, channels)
    geometry: dict[str, tuple[int, ...]] = {"pad": (0, 0, 0, 0), "strides": (1, 1), "dilation": (1, 1)}
    result = emit(island, image, filters_first, (1, 1), geometry, depthwise=False, name="dense")
    return None if result is None else relax.op.reshape(result, island.shape)


LOWERINGS = {"relax.nn.conv2d": conv2d, "relax.matmul": dense}
