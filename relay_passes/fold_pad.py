"""Fold a pad with zeros into the convolution or average pool that it feeds: one copy of the activation less.

    conv2d(pad(x, [0, 0, 0, 0, 1, 1, 1, 1]), w)       ->   conv2d(x, w, padding=[1, 1, 1, 1])
    avg_pool2d(pad(x, [...]))                         ->   avg_pool2d(x, padding=[...], count_include_pad=True)

A reshape that only moves axes of one element may stand between the two. Pads of the batch or the channels stay, and so do pads with other
values than zero.
"""

from collections.abc import Sequence

from tvm import relax

from relay_passes.rewrite import Graph, is_tensor, op_name, rewrite_pass, rewrites, shape


def real_axes(extents: Sequence[int]) -> list[int]:
    return [axis for axis, extent in enumerate(extents) if extent != 1]


def zero_pad(data: relax.Expr, graph: Graph) -> tuple[relax.Expr, list[tuple[int, int]]] | None:
    """What `data`, of rank four, pads with zeros, and by how much before and after on each axis."""
    call, after_reshape = graph.source(data), None
    if op_name(call) == "relax.reshape" and is_tensor(call):
        after_reshape, call = shape(call), graph.source(call.args[0])
    if op_name(call) != "relax.nn.pad" or not is_tensor(call.args[0]):
        return None
    if call.attrs.pad_mode != "constant" or float(call.attrs.pad_value) != 0:
        return None
    flat = [int(width) for width in call.attrs.pad_width]
    widths, inner = list(zip(flat[::2], flat[1::2], strict=True)), call.args[0]
    if min(flat) < 0:
        return None
    if after_reshape is None:
        return inner, widths
    padded, unpadded = shape(call), shape(inner)
    old, new = real_axes(padded), real_axes(after_reshape)
    if [padded[axis] for axis in old] != [after_reshape[axis] for axis in new]:
        return None
    extents, moved = [1] * len(after_reshape), [(0, 0)] * len(after_reshape)
    for source, target in zip(old, new, strict=True):
        extents[target], moved[target] = unpadded[source], widths[source]
    return relax.op.reshape(inner, extents), moved


def more(padding: Sequence[int], widths: list[tuple[int, int]]) -> tuple[int, int, int, int]:
    """Top, left, bottom, right: what the operator pads already and what the pad adds."""
    (top, bottom), (left, right) = widths[2:]
    old = [int(width) for width in padding]
    return old[0] + top, old[1] + left, old[2] + bottom, old[3] + right


@rewrites("relax.nn.conv2d")
def into_conv(call: relax.Call, graph: Graph) -> relax.Expr | None:
    old, found = call.attrs, zero_pad(call.args[0], graph)
    if found is None or old.data_layout != "NCHW" or any(sum(width) for width in found[1][:2]):
        return None
    return relax.op.nn.conv2d(
        found[0],
        call.args[1],
        strides=list(old.strides),
        padding=more(old.padding, found[1]),
        dilation=list(old.dilation),
        groups=int(old.groups),
        data_layout=old.data_layout,
        kernel_layout=old.kernel_layout,
        out_layout=old.out_layout,
        out_dtype=old.out_dtype,
    )


@rewrites("relax.nn.avg_pool2d")
def into_average(call: relax.Call, graph: Graph) -> relax.Expr | None:
    old, found = call.attrs, zero_pad(call.args[0], graph)
    if found is None or old.layout != "NCHW" or any(sum(width) for width in found[1][:2]):
        return None
    counted = old.count_include_pad or not any(map(int, old.padding))  # else the pool's own border counts otherwise than the pad
    if not counted or old.ceil_mode:
        return None
    return relax.op.nn.avg_pool2d(
        found[0],
        pool_size=list(old.pool_size),
        strides=list(old.strides),
        padding=more(old.padding, found[1]),
        dilation=list(old.dilation),
        ceil_mode=False,
        count_include_pad=True,
        layout=old.layout,
        out_layout=old.out_layout,
    )


fold_pad = rewrite_pass("fold_pad", [into_conv, into_average])
