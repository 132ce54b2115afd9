"""A transposed convolution is one convolution for each phase of its stride, whose results are interleaved.

    y = conv2d_transpose(x [N, C, H, W], w [C, K, R, S], strides s)
->  p = conv2d(x, v [s * s * K, C, R / s, S / s])            all phases at once; taps of w that one phase reads, back to front
    y = p with phase (a, b) at rows s * q + a and columns s * r + b, then cropped

    x of one pixel   ->   y = matmul(x, w), cropped

An output row h meets the input row i where h + padding = s * i + r for a tap r. With h + padding = s * q + a only the taps r = s * t + a
take part, and the rows they meet are q - t. So no multiplication by the zeros that a literal reading puts between the pixels remains, and
what is left are operators with fast rules. Left alone: weights that are not constant, other layouts, integers.
"""

from typing import NamedTuple

import numpy as np
from tvm import relax

from relay_passes.rewrite import array, constant, is_tensor, rewrite_pass, rewrites, shape


class Axis(NamedTuple):
    """How height or width is computed: of `rows` rows in each phase, interleaved, `out` are kept from number `skip` on."""

    stride: int
    taps: int
    before: int
    after: int
    rows: int
    skip: int
    out: int


def plan(size: int, taps: int, stride: int, padding: int, out: int) -> Axis | None:
    """None where the padding cuts off more than the taps reach."""
    per_phase = -(-taps // stride)
    first, skip = divmod(padding, stride)
    before = per_phase - 1 - first
    after = max(0, -(-(skip + out) // stride) - (size + before - per_phase + 1))
    rows = size + before + after - per_phase + 1
    return Axis(stride, per_phase, before, after, rows, skip, out) if before >= 0 else None


def dilated(weight: np.ndarray, height: int, width: int) -> np.ndarray:
    """The weight with the zeros between its taps written out."""
    rows, columns = ((extent - 1) * step + 1 for extent, step in zip(weight.shape[2:], (height, width), strict=True))
    result = np.zeros((*weight.shape[:2], rows, columns), weight.dtype)
    result[:, :, ::height, ::width] = weight
    return result


def phases(weight: np.ndarray, groups: int, h: Axis, w: Axis) -> np.ndarray:
    """[C, K / groups, R, S] -> [groups * s * s * K / groups, C / groups, taps, taps], back to front."""
    channels, filters, rows, columns = weight.shape
    whole = np.zeros((channels, filters, h.taps * h.stride, w.taps * w.stride), weight.dtype)
    whole[:, :, :rows, :columns] = weight
    split = whole.reshape(groups, channels // groups, filters, h.taps, h.stride, w.taps, w.stride)
    ordered = split.transpose(0, 4, 6, 2, 1, 3, 5)[..., ::-1, ::-1]
    return ordered.reshape(-1, channels // groups, h.taps, w.taps)


def crop(image: relax.Expr, h: Axis, w: Axis) -> relax.Expr:
    return relax.op.strided_slice(image, [2, 3], [h.skip, w.skip], [h.skip + h.out, w.skip + w.out])


@rewrites("relax.nn.conv1d_transpose")
def lie_down(call: relax.Call, _graph: object) -> relax.Expr | None:
    attrs, (data, weight) = call.attrs, call.args
    if (attrs.data_layout, attrs.kernel_layout, attrs.out_layout) != ("NCW", "IOW", "NCW") or not is_tensor(data) or not is_tensor(weight):
        return None
    if array(weight) is None:
        return None
    (n, c, width), (i, o, taps), (left, right) = shape(data), shape(weight), map(int, attrs.padding)
    row = relax.op.nn.conv2d_transpose(
        relax.op.reshape(data, (n, c, 1, width)),
        constant(np.asarray(array(weight)).reshape(i, o, 1, taps)),
        strides=(1, int(attrs.strides[0])),
        padding=(0, left, 0, right),
        output_padding=(0, int(attrs.output_padding[0])),
        dilation=(1, int(attrs.dilation[0])),
        groups=int(attrs.groups),
    )
    return relax.op.reshape(row, shape(call))


@rewrites("relax.nn.conv2d_transpose")
def split(call: relax.Call, _graph: object) -> relax.Expr | None:
    attrs, data, value = call.attrs, call.args[0], array(call.args[1])
    layouts = (attrs.data_layout, attrs.kernel_layout, attrs.out_layout)
    if layouts != ("NCHW", "IOHW", "NCHW") or value is None or value.dtype.kind != "f" or not is_tensor(data):
        return None
    weight = dilated(value, *map(int, attrs.dilation))
    (n, channels, height, width), (_n, filters, out_h, out_w) = shape(data), shape(call)
    groups, (top, left, _bottom, _right) = int(attrs.groups), map(int, attrs.padding)
    rows, columns = weight.shape[2:]
    if (height, width, groups) == (1, 1, 1) and top + out_h <= rows and left + out_w <= columns:
        product = relax.op.matmul(relax.op.reshape(data, (n, channels)), constant(weight.reshape(channels, -1)))
        whole = relax.op.reshape(product, (n, filters, rows, columns))
        return relax.op.strided_slice(whole, [2, 3], [top, left], [top + out_h, left + out_w])
    h = plan(height, rows, int(attrs.strides[0]), top, out_h)
    w = plan(width, columns, int(attrs.strides[1]), left, out_w)
    if h is None or w is None:
        return None
    padding = (h.before, w.before, h.after, w.after)
    result = relax.op.nn.conv2d(data, constant(phases(weight, groups, h, w)), padding=padding, groups=groups)
    result = relax.op.reshape(result, (n, groups, h.stride, w.stride, filters // groups, h.rows, w.rows))
    result = relax.op.permute_dims(result, (0, 1, 4, 5, 2, 6, 3))
    return crop(relax.op.reshape(result, (n, filters, h.rows * h.stride, w.rows * w.stride)), h, w)


split_conv2d_transpose = rewrite_pass("split_conv2d_transpose", [lie_down, split])
