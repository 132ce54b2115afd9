"""Sums of products of unsigned activations and signed weights, as programs that the rules for dot products of bytes know.

    pad[n, h, w, c]                  the image with its border, which holds the zero point, and channels up to a multiple of four
    conv2d_dot[n, h, w, fo, fi]   += int32(pad[n, h * stride + r, w * stride + s, co * 4 + ci]) * int32(w[fo, r, s, co, fi, ci])
    y[n, h, w, f]                  = float32(conv2d_dot[n, h, w, f / 16, f % 16] + bias[f]) * scale[f]

    depthwise_conv2d_nhwc[n, h, w, c] += int32(pad[n, h * stride + r, w * stride + s, c]) * int32(w[r, s, c])
    y[n, h, w, c]                      = float32(depthwise_conv2d_nhwc[n, h, w, c] + bias[c]) * scale[c]

A dense layer is a convolution of one row of pixels. Weights are packed here, in numpy: sixteen filters, four channels of each, so that one
vector holds what a dot-product instruction reads.
"""

from dataclasses import dataclass

import numpy as np
from tvm import te, tirx

from relay_passes.rewrite import blank

FILTERS, CHANNELS = 16, 4  # of one vector of packed weights
Array = np.ndarray


@dataclass(frozen=True)
class Window:
    """Where the weights lie over the image."""

    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right

    def extent(self, size: int, kernel: int, axis: int) -> int:
        """Of the result, from that of the image."""
        padded = size + self.pad[axis] + self.pad[axis + 2]
        return (padded - self.dilation[axis] * (kernel - 1) - 1) // self.strides[axis] + 1


def up_to(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def pack(weights: Array) -> Array:
    """int8 [filters, R, S, channels] -> [filters / 16, R, S, channels / 4, 16, 4], zeros behind the last filter and channel."""
    filters, rows, columns, channels = weights.shape
    whole = np.zeros((up_to(filters, FILTERS), rows, columns, up_to(channels, CHANNELS)), weights.dtype)
    whole[:filters, :, :, :channels] = weights
    split = whole.reshape(-1, FILTERS, rows, columns, whole.shape[3] // CHANNELS, CHANNELS).transpose(0, 2, 3, 4, 1, 5)
    packed = blank(split.shape, weights.dtype)
    packed[:] = split
    return packed


def bordered(x: te.Tensor, pad: tuple[int, int, int, int], channels: int, zero: int, times: int = 1) -> te.Tensor:
    """The image [n, h, w, c] with its border, its channels `times` over, and `channels` in all; `x` itself where nothing is added."""
    n, height, width, own = (int(extent) for extent in x.shape)
    given = own * times
    top, left, bottom, right = pad
    if not any(pad) and channels == given:
        return x

    def element(b: tirx.Var, h: tirx.Var, w: tirx.Var, c: tirx.Var) -> tirx.Expr:
        conditions = []
        if top:
            conditions.append(h >= top)
        if bottom:
            conditions.append(h < top + height)
        if left:
            conditions.append(w >= left)
        if right:
            conditions.append(w < left + width)
        if channels > given:
            conditions.append(c < given)
        pixel = x[b, h - top, w - left, c % own if times > 1 else c]
        return te.if_then_else(te.all(*conditions), pixel, tirx.const(zero, x.dtype)) if conditions else pixel

    return te.compute((n, height + top + bottom, width + left + right, channels), element, name="pad")


def conv2d(x: te.Tensor, w: te.Tensor, window: Window, zero: int, times: int = 1) -> te.Tensor:
    """int32 [n, h, w, filters / 16, 16]. The weights are those of the channels `times` over."""
    n, height, width, _ = (int(extent) for extent in x.shape)
    blocks, rows, columns, quads, _, _ = (int(extent) for extent in w.shape)
    image = bordered(x, window.pad, quads * CHANNELS, zero, times)
    r, s = te.reduce_axis((0, rows), "r"), te.reduce_axis((0, columns), "s")
    co, ci = te.reduce_axis((0, quads), "co"), te.reduce_axis((0, CHANNELS), "ci")

    def product(b: tirx.Var, h: tirx.Var, v: tirx.Var, fo: tirx.Var, fi: tirx.Var) -> tirx.Expr:
        row, column = h * window.strides[0] + r * window.dilation[0], v * window.strides[1] + s * window.dilation[1]
        pixel = image[b, row, column, co * CHANNELS + ci].astype("int32")
        return te.sum(pixel * w[fo, r, s, co, fi, ci].astype("int32"), axis=[r, s, co, ci])

    shape = (n, window.extent(height, rows, 0), window.extent(width, columns, 1), blocks, FILTERS)
    return te.compute(shape, product, name="conv2d_dot")


def depthwise(x: te.Tensor, w: te.Tensor, window: Window, zero: int) -> te.Tensor:
    """int32 [n, h, w, c]."""
    n, height, width, channels = (int(extent) for extent in x.shape)
    rows, columns, _ = (int(extent) for extent in w.shape)
    image = bordered(x, window.pad, channels, zero)
    r, s = te.reduce_axis((0, rows), "r"), te.reduce_axis((0, columns), "s")

    def product(b: tirx.Var, h: tirx.Var, v: tirx.Var, c: tirx.Var) -> tirx.Expr:
        row, column = h * window.strides[0] + r * window.dilation[0], v * window.strides[1] + s * window.dilation[1]
        return te.sum(image[b, row, column, c].astype("int32") * w[r, s, c].astype("int32"), axis=[r, s])

    shape = (n, window.extent(height, rows, 0), window.extent(width, columns, 1), channels)
    return te.compute(shape, product, name="depthwise_conv2d_nhwc")


def rescaled(acc: te.Tensor, bias: te.Tensor, scale: te.Tensor) -> te.Tensor:
    """float32 [n, h, w, f] of sums that are in blocks of filters or plain."""
    filters = int(bias.shape[0])

    def element(n: tirx.Var, h: tirx.Var, w: tirx.Var, f: tirx.Var) -> tirx.Expr:
        total = acc[n, h, w, f // FILTERS, f % FILTERS] if len(acc.shape) == 5 else acc[n, h, w, f]
        return (total + bias[f]).astype("float32") * scale[f]

    return te.compute((*acc.shape[:3], filters), element, name="rescale")
