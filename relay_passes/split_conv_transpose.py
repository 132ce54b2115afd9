"""A transposed convolution is one convolution for each phase of its stride, whose results are interleaved.

    y = conv2d_transpose(x [N, C, H, W], w [C, K, R, S], strides s)
->  p = conv2d(x, v [s * s * K, C, R / s, S / s])            all phases at once; taps of w that one phase reads, back to front
    y = p with phase (a, b) at rows s * q + a and columns s * r + b, then cropped

    x of one pixel   ->   y = matmul(x, w), cropped                  conv1d_transpose   ->   conv2d_transpose of height 1

An output row h meets the input row i where h + padding = s * i + r for a tap r. With h + padding = s * q + a only the taps r = s * t + a
take part, and the rows they meet are q - t. So no multiplication by the zeros that a literal reading puts between the pixels remains, and
what is left are operators with fast rules. Left alone: weights that are not constant, other layouts, integers.
"""

from math import prod
from typing import NamedTuple

import numpy as np
from tvm import relax

from relay_passes.rewrite import Graph, array, constant, is_tensor, rewrite_pass, rewrites, shape

LAYOUTS = {3: ("NCW", "IOW"), 4: ("NCHW", "IOHW"), 5: ("NCDHW", "IODHW")}


class Axis(NamedTuple):
    """How one axis is computed: of `rows` rows in each phase, interleaved, `out` are kept from number `skip` on."""

    stride: int
    taps: int
    before: int
    after: int
    rows: int
    skip: int
    out: int


def plan(size: int, taps: int, stride: int, padding: int, out: int) -> Axis:
    """`before` is negative where the padding cuts off more than the taps reach."""
    per_phase = -(-taps // stride)
    first, skip = divmod(padding, stride)
    before = per_phase - 1 - first
    after = max(0, -(-(skip + out) // stride) - (size + before - per_phase + 1))
    return Axis(stride, per_phase, before, after, size + before + after - per_phase + 1, skip, out)


def dilated(weight: np.ndarray, steps: list[int]) -> np.ndarray:
    """The weight with the zeros between its taps written out."""
    extents = [(extent - 1) * step + 1 for extent, step in zip(weight.shape[2:], steps, strict=True)]
    result = np.zeros((*weight.shape[:2], *extents), weight.dtype)
    spread = (slice(None), slice(None), *(slice(None, None, step) for step in steps))
    result[spread] = weight
    return result


def phases(weight: np.ndarray, groups: int, axes: list[Axis]) -> np.ndarray:
    """[C, K / groups, R, S] -> [groups * s * s * K / groups, C / groups, taps, taps], back to front."""
    channels, filters = weight.shape[:2]
    whole = np.zeros((channels, filters, *(axis.taps * axis.stride for axis in axes)), weight.dtype)
    whole[tuple(slice(extent) for extent in weight.shape)] = weight
    digits = [extent for axis in axes for extent in (axis.taps, axis.stride)]
    split = whole.reshape(groups, channels // groups, filters, *digits)
    count = len(axes)
    taps, strides = range(3, 3 + 2 * count, 2), range(4, 4 + 2 * count, 2)
    ordered = np.flip(split.transpose(0, *strides, 2, 1, *taps), tuple(range(-count, 0)))
    return ordered.reshape(-1, channels // groups, *(axis.taps for axis in axes))


def crop(image: relax.Expr, begin: list[int], extents: list[int]) -> relax.Expr:
    end = [first + extent for first, extent in zip(begin, extents, strict=True)]
    return relax.op.strided_slice(image, list(range(2, 2 + len(begin))), begin, end)


def split(call: relax.Call) -> relax.Expr | None:
    """What takes the place of a transposed convolution over two or three axes; None where it has to stay."""
    attrs, data, value = call.attrs, call.args[0], array(call.args[1])
    if value is None or value.dtype.kind != "f" or not is_tensor(data):
        return None
    data_layout, kernel_layout = LAYOUTS[value.ndim]
    if (attrs.data_layout, attrs.kernel_layout, attrs.out_layout) != (data_layout, kernel_layout, data_layout):
        return None
    weight = dilated(value, [int(step) for step in attrs.dilation])
    (n, channels, *sizes), (_n, filters, *out), taps = shape(data), shape(call), list(weight.shape[2:])
    count, groups = len(sizes), int(attrs.groups)
    padding = [int(amount) for amount in attrs.padding[:count]]
    if prod(sizes) * groups == 1 and all(p + o <= t for p, o, t in zip(padding, out, taps, strict=True)):
        product = relax.op.matmul(relax.op.reshape(data, (n, channels)), constant(weight.reshape(channels, -1)))
        return crop(relax.op.reshape(product, (n, filters, *taps)), padding, out)
    strides = [int(stride) for stride in attrs.strides]
    axes = [plan(*numbers) for numbers in zip(sizes, taps, strides, padding, out, strict=True)]
    if any(axis.before < 0 for axis in axes):
        return None
    convolution = relax.op.nn.conv2d if count == 2 else relax.op.nn.conv3d
    around = [axis.before for axis in axes] + [axis.after for axis in axes]
    result = convolution(data, constant(phases(weight, groups, axes)), padding=around, groups=groups)
    result = relax.op.reshape(result, (n, groups, *strides, filters // groups, *(axis.rows for axis in axes)))
    interleaved = [axis for k in range(count) for axis in (3 + count + k, 2 + k)]
    result = relax.op.permute_dims(result, (0, 1, 2 + count, *interleaved))
    result = relax.op.reshape(result, (n, filters, *(axis.rows * axis.stride for axis in axes)))
    return crop(result, [axis.skip for axis in axes], out)


@rewrites("relax.nn.conv2d_transpose")
def over_image(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    return split(call)


@rewrites("relax.nn.conv1d_transpose")
def lie_down(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    attrs, data, value = call.attrs, call.args[0], array(call.args[1])
    if (attrs.data_layout, attrs.kernel_layout, attrs.out_layout) != ("NCW", "IOW", "NCW") or value is None or not is_tensor(data):
        return None
    (n, c, width), (i, o, taps), (left, right) = shape(data), value.shape, map(int, attrs.padding)
    row = relax.op.nn.conv2d_transpose(
        relax.op.reshape(data, (n, c, 1, width)),
        constant(value.reshape(i, o, 1, taps)),
        strides=(1, int(attrs.strides[0])),
        padding=(0, left, 0, right),
        output_padding=(0, int(attrs.output_padding[0])),
        dilation=(1, int(attrs.dilation[0])),
        groups=int(attrs.groups),
    )
    return relax.op.reshape(row, shape(call))


split_conv_transpose = rewrite_pass("split_conv_transpose", [lie_down, over_image])
