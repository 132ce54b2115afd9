"""Convolutions and pooling of images that have their channels last, as those of NCHW, which the CPU and GPU rules know.

    conv2d(x, w, NHWC, OHWI)              ->   permute_dims(conv2d(permute_dims(x), permute_dims(w), NCHW, OIHW))
    conv2d_transpose(x, w, NHWC, OHWI)    ->   the same, with weights IOHW
    avg_pool2d, max_pool2d(x, NHWC)       ->   permute_dims(pool(permute_dims(x), NCHW))
    permute_dims(pad(x))                  ->   pad(permute_dims(x))

The transposes between two layers cancel later (fold_transposes), and a pad meets its convolution (fold_pad). Microcontrollers keep NHWC.
"""

from collections.abc import Callable

from tvm import relax

from relay_passes.rewrite import Graph, op_name, rewrite_pass, rewrites

TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]
POOLS: dict[str, Callable[..., relax.Expr]] = {
    "relax.nn.avg_pool2d": relax.op.nn.avg_pool2d,
    "relax.nn.max_pool2d": relax.op.nn.max_pool2d,
}


@rewrites("relax.nn.conv2d", "relax.nn.conv2d_transpose")
def convolution(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    old, transposed = call.attrs, op_name(call) == "relax.nn.conv2d_transpose"
    if old.data_layout != "NHWC" or old.out_layout != "NHWC" or sorted(old.kernel_layout) != sorted("OIHW"):
        return None
    plain = "IOHW" if transposed else "OIHW"
    more = {"output_padding": list(old.output_padding)} if transposed else {}
    result = (relax.op.nn.conv2d_transpose if transposed else relax.op.nn.conv2d)(
        relax.op.permute_dims(call.args[0], TO_NCHW),
        relax.op.permute_dims(call.args[1], [old.kernel_layout.index(letter) for letter in plain]),
        strides=list(old.strides),
        padding=list(old.padding),
        dilation=list(old.dilation),
        groups=int(old.groups),
        kernel_layout=plain,
        out_dtype=old.out_dtype,
        **more,
    )
    return relax.op.permute_dims(result, TO_NHWC)


@rewrites(*POOLS)
def pool(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    old = call.attrs
    if old.layout != "NHWC" or old.out_layout != "NHWC":
        return None
    result = POOLS[call.op.name](
        relax.op.permute_dims(call.args[0], TO_NCHW),
        pool_size=list(old.pool_size),
        strides=list(old.strides),
        padding=list(old.padding),
        dilation=list(old.dilation),
        ceil_mode=bool(old.ceil_mode),
        count_include_pad=bool(old.count_include_pad),
    )
    return relax.op.permute_dims(result, TO_NHWC)


@rewrites("relax.permute_dims")
def before_pad(call: relax.Call, graph: Graph) -> relax.Expr | None:
    source = graph.only(call.args[0], "relax.nn.pad")
    if source is None or call.attrs.axes is None or [int(axis) for axis in call.attrs.axes] != TO_NCHW:
        return None
    flat = [int(width) for width in source.attrs.pad_width]
    widths = [width for axis in TO_NCHW for width in flat[2 * axis : 2 * axis + 2]]
    inner = relax.op.permute_dims(source.args[0], TO_NCHW)
    return relax.op.nn.pad(inner, widths, source.attrs.pad_mode, float(source.attrs.pad_value))


channels_first = rewrite_pass("channels_first", [convolution, pool, before_pad])
