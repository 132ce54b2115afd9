"""Pooling of plain images in two programs: one copies the image into a border, one pools without asking where the border is.

    max_pool2d(x [N, C, H, W], padding=1)   ->   p = pad(x) with the least number;   y = max_pool2d(p)
    avg_pool2d(x, padding=1, counted)       ->   p = pad(x) with zeros;              y = avg_pool2d(p)

In plain layout neighbouring outputs share a vector, and a condition on the column makes every lane scalar: forty times as long as the
copy. Images in blocks of channels have their channels in the vector and stay as they are, as does what has no border.
"""

from tvm import relax, tirx
from tvm.relax.transform.legalize_ops.nn import _nn_avg_pool2d, _nn_max_pool2d

from relay_passes.lower_conv2d import pad_image
from relay_passes.rewrite import is_tensor, shape


def border(call: relax.Call) -> tuple[int, int, int, int] | None:
    """Rows and columns to add at the top, left, bottom and right; None where the pooling stays whole."""
    attrs = call.attrs
    static = is_tensor(call.args[0]) and is_tensor(call)
    if not static or (attrs.layout, attrs.out_layout) != ("NCHW", "NCHW") or not any(int(amount) for amount in attrs.padding):
        return None
    top, left, bottom, right = (int(amount) for amount in attrs.padding)
    (height, width), (rows, columns) = (shape(tensor)[2:] for tensor in (call.args[0], call))
    reach = [
        (out - 1) * int(stride) + (int(window) - 1) * int(dilation) + 1
        for out, stride, window, dilation in zip((rows, columns), attrs.strides, attrs.pool_size, attrs.dilation, strict=True)
    ]  # rounded up, the last window may reach beyond the padding
    return top, left, max(bottom, reach[0] - top - height), max(right, reach[1] - left - width)


def padded(builder: relax.BlockBuilder, call: relax.Call, amounts: tuple[int, int, int, int], value: tirx.Expr) -> relax.Expr:
    """The data of `call` inside its border."""
    copy = builder.call_te(pad_image, call.args[0], *amounts, image_axis=2, value=value, primfunc_name_hint="pad")
    return builder.emit(copy)


def lower_max_pool2d(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    attrs, amounts = call.attrs, border(call)
    if amounts is None:
        return _nn_max_pool2d(builder, call)
    image = padded(builder, call, amounts, tirx.min_value(str(call.ty.dtype.dtype)))
    return _nn_max_pool2d(builder, builder.normalize(relax.op.nn.max_pool2d(image, attrs.pool_size, attrs.strides, 0, attrs.dilation)))


def lower_avg_pool2d(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    attrs, amounts = call.attrs, border(call)
    if amounts is None or not attrs.count_include_pad or attrs.ceil_mode:
        return _nn_avg_pool2d(builder, call)
    image = padded(builder, call, amounts, tirx.const(0, str(call.ty.dtype.dtype)))
    return _nn_avg_pool2d(builder, builder.normalize(relax.op.nn.avg_pool2d(image, attrs.pool_size, attrs.strides, 0, attrs.dilation)))
