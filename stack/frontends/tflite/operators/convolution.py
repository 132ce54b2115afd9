"""Convolutions and dense layers, in TFLite's own layouts.

    CONV_2D            x [n, h, w, c], weights [f, kh, kw, c]     ->   conv2d NHWC, OHWI
    DEPTHWISE_CONV_2D  x [n, h, w, c], weights [1, kh, kw, f]     ->   conv2d NHWC, IHWO, a group for each channel of x
    TRANSPOSE_CONV     x [n, h, w, c], weights [f, kh, kw, c]     ->   conv2d_transpose NHWC, OHWI
    FULLY_CONNECTED    x [..., c], weights [f, c]                 ->   matmul with the weights transposed, [c, f]

An int32 or int64 bias has the scale of the products, x's times that of the weights, whatever scale the file repeats for it.
"""

import numpy as np
from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Refused, dequantize
from stack.frontends.tflite.graph import Affine
from stack.frontends.tflite.operators.hybrid import images
from stack.frontends.tflite.operators.hybrid import rows as rows_of

SAME = 0
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]  # top, left, bottom, right


def borders(c: Conversion, extents: Pair, kernel: tuple[int, ...], strides: Pair, dilation: Pair = (1, 1)) -> Pads:
    """What SAME pads: as little as gives ceil(extent / stride) results, the odd one behind. VALID pads nothing."""
    if c.option("padding") != SAME:
        return 0, 0, 0, 0
    totals = [
        max((-(-extent // stride) - 1) * stride + (taps - 1) * step + 1 - extent, 0)
        for extent, taps, stride, step in zip(extents, kernel, strides, dilation, strict=True)
    ]
    top, left = (total // 2 for total in totals)
    return top, left, totals[0] - top, totals[1] - left


def window(c: Conversion) -> tuple[Pair, Pair]:
    """Strides and dilation of a convolution."""
    strides = (c.option("stride_h"), c.option("stride_w"))
    dilation = (c.option("dilation_h_factor"), c.option("dilation_w_factor"))
    if min(*strides, *dilation) < 1:
        raise Refused(f"its strides {list(strides)} and dilation {list(dilation)} must be positive")
    return strides, dilation


def expect_rank(c: Conversion, *ranks: int) -> None:
    """Refuse inputs of other ranks, one rank for each input in order."""
    for index, rank in enumerate(ranks):
        if len(c.shape(index)) != rank:
            raise Refused(f"its input {c.tensor(index).name!r} has {len(c.shape(index))} dimensions, and {rank} can be compiled")


def with_bias(c: Conversion, result: relax.Expr, index: int, data: int = 0) -> relax.Expr:
    """`result` and the bias, where the node has one."""
    if not c.has(index):
        return result
    tensor, bias = c.tensor(index), c.stored(index)
    if tensor.dtype == "float32":
        return relax.op.add(result, bias)
    affine, other = c.affine(data), c.affine(1)
    if affine is None or other is None or tensor.dtype not in ("int32", "int64"):
        raise Refused(f"its bias {tensor.name!r} is {tensor.dtype}")
    value = c.value(index)
    limits = np.iinfo(np.int32)
    if (value < limits.min).any() or (value > limits.max).any():
        raise Refused(f"its bias {tensor.name!r} needs more than 32 bits")
    scale = affine.scale * other.scale
    return relax.op.add(result, dequantize(c.const(value, "int32"), Affine(scale, np.zeros(scale.shape, np.int32)), "int32"))


def convolution(c: Conversion) -> relax.Expr:
    expect_rank(c, 4, 4)
    strides, dilation = window(c)
    (_, height, width, channels), (filters, *kernel, depth) = c.shape(0), c.shape(1)
    if not depth or channels % depth or filters % (channels // depth):
        raise Refused(f"{channels} channels and {filters} filters over {depth} of them do not fit")
    pads = c.node.options.get("pads") or borders(c, (height, width), tuple(kernel), strides, dilation)
    result = relax.op.nn.conv2d(
        images(c), c.real(1), strides, pads, dilation, groups=channels // depth, data_layout="NHWC", kernel_layout="OHWI"
    )  # fmt: skip
    return with_bias(c, result, 2)


def depthwise(c: Conversion) -> relax.Expr:
    expect_rank(c, 4, 4)
    strides, dilation = window(c)
    (_, height, width, channels), (one, *kernel, filters) = c.shape(0), c.shape(1)
    if one != 1 or not channels or filters % channels:
        raise Refused(f"its weights of shape {list(c.shape(1))} do not fit {channels} channels")
    pads = c.node.options.get("pads") or borders(c, (height, width), tuple(kernel), strides, dilation)
    result = relax.op.nn.conv2d(
        images(c), c.real(1), strides, pads, dilation, groups=channels, data_layout="NHWC", kernel_layout="IHWO"
    )  # fmt: skip
    return with_bias(c, result, 2)


def dense(c: Conversion) -> relax.Expr:
    expect_rank(c, len(c.shape(0)), 2)
    if c.option("weights_format") != 0:
        raise Refused("its weights are stored shuffled")
    filters, depth = c.shape(1)
    extents = c.shape(0)
    rows = (*extents[:-1], filters) if c.option("keep_num_dims") else (int(np.prod(extents)) // max(depth, 1), filters)
    data = c.stored(0)
    if extents[-1:] != (depth,) or len(rows) != len(extents):
        if int(np.prod(extents)) != int(np.prod(rows[:-1])) * depth:
            raise Refused(f"an input of shape {list(extents)} has no rows of {depth}")
        data = c.emit(relax.op.reshape(data, (*rows[:-1], depth)))
    weights = c.emit(relax.op.permute_dims(c.stored(1), [1, 0]))
    affine, other = c.affine(0), c.affine(1)
    data = c.emit(dequantize(data, affine, c.tensor(0).dtype)) if affine else rows_of(c, data)
    weights = c.emit(dequantize(weights, other, c.tensor(1).dtype, axis=1)) if other else weights
    return with_bias(c, relax.op.matmul(data, weights), 2)


def transposed(c: Conversion) -> relax.Expr:
    """Its inputs are the shape of the result, the weights and x."""
    strides = (c.option("stride_h"), c.option("stride_w"))
    expect_rank(c, 1, 4, 4)
    if min(strides) < 1:
        raise Refused(f"its strides {list(strides)} must be positive")
    batch, out_height, out_width, filters = c.target(0)
    (rows, *kernel, depth), (count, height, width, channels) = c.shape(1), c.shape(2)
    pads = borders(c, (out_height, out_width), tuple(kernel), strides)
    reached = [
        (extent - 1) * stride + taps - before - after
        for extent, stride, taps, before, after in zip((height, width), strides, kernel, pads[:2], pads[2:], strict=True)
    ]
    extra = [out_height - reached[0], out_width - reached[1]]
    sound = all(0 <= more < stride for more, stride in zip(extra, strides, strict=True))
    if (rows, depth, batch) != (filters, channels, count) or not sound:
        raise Refused(f"a result of shape {c.target(0)} does not fit its input and weights")
    result = relax.op.nn.conv2d_transpose(
        images(c, data=2, weights=1), c.real(1), strides, pads, extra, data_layout="NHWC", kernel_layout="OHWI"
    )  # fmt: skip
    return with_bias(c, result, 3, data=2)


REAL = {"CONV_2D": convolution, "DEPTHWISE_CONV_2D": depthwise, "FULLY_CONNECTED": dense, "TRANSPOSE_CONV": transposed}
