"""A convolution over frames is one over images, whose channels are those of all frames that one output frame reads.

    conv3d(x [N, C, D, H, W], w [K, C, T, R, S])
->  frames = permute_dims(x)                                       [N, D, C, H, W], with zero frames around where there is padding
    stack  = concat(frames[:, t::stride] for each tap t)           [N, D', T * C, H, W]
    y      = conv2d(stack as N * D' images, w [K, T * C, R, S])    then back in the old order

The frames are copied T times, and each element copied is multiplied K * R * S times: cheap, and convolution of images has fast rules.
Between two such convolutions the transposes cancel. conv3d_transpose becomes conv3d on the way. Left alone: other layouts, integers.
"""

from tvm import relax

from relay_passes.rewrite import Graph, dtype, is_tensor, rewrite_pass, rewrites, shape
from relay_passes.split_conv_transpose import split


@rewrites("relax.nn.conv3d_transpose")
def transposed(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    return split(call)


@rewrites("relax.nn.conv3d")
def over_frames(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    attrs, (data, weight) = call.attrs, call.args
    if (attrs.data_layout, attrs.kernel_layout, attrs.out_layout) != ("NCDHW", "OIDHW", "NCDHW") or attrs.out_dtype not in (None, "void"):
        return None
    if not is_tensor(data) or not is_tensor(weight) or not dtype(call).startswith("float"):
        return None
    (n, c, _d, h, w), (k, per_group, taps, r, s) = shape(data), shape(weight)
    first, top, left, last, bottom, right = (int(amount) for amount in attrs.padding)
    stride, *strides = (int(amount) for amount in attrs.strides)
    dilation, *dilations = (int(amount) for amount in attrs.dilation)
    _n, _k, depth, out_h, out_w = shape(call)
    groups = int(attrs.groups)
    frames = relax.op.permute_dims(data, (0, 2, 1, 3, 4))
    if first or last:
        frames = relax.op.nn.pad(frames, (0, 0, first, last, *(0,) * 6))
    slices = []
    for tap in range(taps):
        begin = tap * dilation
        read = relax.op.strided_slice(frames, [1], [begin], [begin + (depth - 1) * stride + 1], [stride])
        slices.append(relax.op.reshape(read, (n, depth, groups, per_group, h, w)))
    stack = relax.op.concat(slices, axis=3) if taps > 1 else slices[0]
    images = relax.op.reshape(stack, (n * depth, taps * c, h, w))
    filters = relax.op.reshape(relax.op.permute_dims(weight, (0, 2, 1, 3, 4)), (k, taps * per_group, r, s))
    result = relax.op.nn.conv2d(images, filters, strides, (top, left, bottom, right), dilations, groups)
    return relax.op.permute_dims(relax.op.reshape(result, (n, depth, k, out_h, out_w)), (0, 2, 1, 3, 4))


flatten_conv3d = rewrite_pass("flatten_conv3d", [transposed, over_frames])
