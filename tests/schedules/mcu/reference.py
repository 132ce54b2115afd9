"""Integer convolutions in numpy, as TFLite Micro computes them: what kernels are compared with."""

from typing import Any

import numpy as np

from schedules.integer import Conv2D, Convolution, Depthwise

Array = np.ndarray[Any, np.dtype[Any]]


def requantize(acc: Array, multiplier: Array, shift: Array) -> Array:
    """MultiplyByQuantizedMultiplier with two roundings, on int64."""
    left, right = np.maximum(shift, 0).astype(np.int64), np.maximum(-shift, 0).astype(np.int64)
    high = ((acc.astype(np.int64) << left) * multiplier.astype(np.int64) + (1 << 30)) >> 31
    half = np.where(right > 0, (1 << np.maximum(right, 1)) >> 1, 0) + np.where(right > 0, high >> 63, 0)
    return (high + half) >> right


def windows(op: Convolution, x: Array) -> Array:
    """[batch, out_height, out_width, kernel_h, kernel_w, channels], the border filled with `x_zero`."""
    top, left, bottom, right = op.pad
    image = np.pad(x.astype(np.int64), ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=op.x_zero)
    rows = np.arange(op.out_height)[:, None] * op.strides[0] + np.arange(op.kernel_h) * op.dilation[0]
    columns = np.arange(op.out_width)[:, None] * op.strides[1] + np.arange(op.kernel_w) * op.dilation[1]
    return image[:, rows[:, None, :, None], columns[None, :, None, :], :]


def run(op: Conv2D | Depthwise, x: Array, w: Array, bias: Array, multiplier: Array, shift: Array) -> Array:
    """The int8 output [batch, out_height, out_width, filters]."""
    patches = windows(op, x)
    if isinstance(op, Conv2D):
        acc = np.einsum("nyxhwc,fhwc->nyxf", patches, w.astype(np.int64))
    else:
        acc = np.einsum("nyxhwf,hwf->nyxf", np.repeat(patches, op.filters // op.channels, axis=-1), w[0].astype(np.int64))
    acc = acc + bias
    return np.clip(requantize(acc, multiplier, shift) + op.y_zero, op.low, op.high).astype(np.int8)
