"""relax.nn.conv2d -> a TensorIR program whose loops the CPU rules know.

    conv2d(x [N, C/c, H, W, c], w [K/k, C/c, R, S, c, k], "NCHWc")  ->  pad, then
        conv2d_nchwc[n, ko, h, w, k] += pad[n, co, h * stride + r, w * stride + s, ci] * w[ko, co, r, s, ci, k]
        crop, where columns were added so that tiles divide the width

    depthwise, w [C/c, 1, R, S, 1, c]                               ->  pad, then
        depthwise_conv2d_nchwc[n, co, h, w, c] += pad[n, co, h * stride + r, w * stride + s, c] * w[co, 0, r, s, 0, c]

The first layer of a network reads NCHW and writes NCHWc, with all its few channels as one block.

    conv2d(x [N, C, H, W], w [K, C/groups, R, S], "NCHW")           ->  pad, then, over the flat padded plane,
        conv2d_plane[n, k, p] += pad[n, c, flat p + r * row + s] * w[k, c, r, s]     for all p, one vector after the other
        crop[n, k, h, w] = conv2d_plane[n, k, h * stride * row + w * stride]

Walking the flat plane wastes the few columns of padding and makes every load one vector, whatever the width of the image. Larger
strides and other layouts stay with TVM's legalisation.
"""

from tvm import relax, te, tirx
from tvm.ir import Expr
from tvm.relax.transform.legalize_ops.nn import _nn_conv2d


def pad_image(x: te.Tensor, top: int, left: int, bottom: int, right: int, image_axis: int, value: tirx.Expr | None = None) -> te.Tensor:
    """Zeros, or `value`, around height and width; `image_axis` is the position of height. `x` itself where there is nothing to add."""
    if not (top or left or bottom or right):
        return x
    shape = [int(extent) for extent in x.shape]
    height, width = shape[image_axis], shape[image_axis + 1]
    padded = list(shape)
    padded[image_axis] += top + bottom
    padded[image_axis + 1] += left + right

    around = tirx.const(0, x.dtype) if value is None else value

    def element(*index: tirx.Var) -> Expr:
        h, w = index[image_axis] - top, index[image_axis + 1] - left
        inside = []
        if top:
            inside.append(h >= 0)
        if bottom:
            inside.append(h < height)
        if left:
            inside.append(w >= 0)
        if right:
            inside.append(w < width)
        source = [*index[:image_axis], h, w, *index[image_axis + 2 :]]
        return te.if_then_else(te.all(*inside), x[tuple(source)], around)

    return te.compute(padded, element, name="pad")


def conv2d_nchwc(x: te.Tensor, w: te.Tensor, attrs: relax.op.op_attrs.Conv2DAttrs) -> te.Tensor:
    top, left, bottom, right = (int(amount) for amount in attrs.padding)
    stride_h, stride_w = (int(stride) for stride in attrs.strides)
    dilation_h, dilation_w = (int(dilation) for dilation in attrs.dilation)
    blocked = len(x.shape) == 5
    n, _channels, height, width = (int(extent) for extent in x.shape[:4])
    k_outer, c_outer, kernel_h, kernel_w, c_inner, k_inner = (int(extent) for extent in w.shape)
    out_h = (height + top + bottom - dilation_h * (kernel_h - 1) - 1) // stride_h + 1
    out_w = (width + left + right - dilation_w * (kernel_w - 1) - 1) // stride_w + 1
    groups = int(attrs.groups)
    r, s = te.reduce_axis((0, kernel_h), "r"), te.reduce_axis((0, kernel_w), "s")

    if blocked and groups > 1 and c_outer == c_inner == 1:
        padded = pad_image(x, top, left, bottom, right, image_axis=2)

        def depthwise(b: tirx.Var, q: tirx.Var, h: tirx.Var, v: tirx.Var, o: tirx.Var) -> Expr:
            pixel = padded[b, q, h * stride_h + r * dilation_h, v * stride_w + s * dilation_w, o]
            return te.sum(pixel * w[q, 0, r, s, 0, o], axis=[r, s])

        return te.compute((n, k_outer, out_h, out_w, k_inner), depthwise, name="depthwise_conv2d_nchwc")

    columns = tileable(out_h, out_w, registers=32 if k_inner >= 16 else 16)
    padded = pad_image(x, top, left, bottom, right + (columns - out_w) * stride_w, image_axis=2)
    co, ci = te.reduce_axis((0, c_outer), "co"), te.reduce_axis((0, c_inner), "ci")
    k_per_group = k_outer // groups

    def direct(b: tirx.Var, q: tirx.Var, h: tirx.Var, v: tirx.Var, o: tirx.Var) -> Expr:
        row, column = h * stride_h + r * dilation_h, v * stride_w + s * dilation_w
        channel = co if groups == 1 else q // k_per_group * c_outer + co
        pixel = padded[b, channel, row, column, ci] if blocked else padded[b, ci, row, column]
        return te.sum(pixel * w[q, co, r, s, ci, o], axis=[co, r, s, ci])

    result = te.compute((n, k_outer, out_h, columns, k_inner), direct, name="conv2d_nchwc")
    if columns == out_w:
        return result
    return te.compute((n, k_outer, out_h, out_w, k_inner), lambda *index: result[index], name="crop")


def tileable(height: int, width: int, registers: int) -> int:
    """`width`, or a few columns more where no tile of a good size divides the image: a prime width of 37 is computed as 38 = 2 x 19."""

    def pixels(columns: int) -> int:
        tiles = [h * w for h in range(1, 9) for w in range(1, columns + 1) if height % h == 0 and columns % w == 0]
        return max(tile for tile in tiles if tile <= registers - 4)

    return next(columns for columns in range(width, 2 * width + 1) if columns < registers // 4 or pixels(columns) >= registers // 4)


VECTOR = 16  # float32 values; planes are rounded up to whole vectors of the widest machine


def conv2d_nchw(x: te.Tensor, w: te.Tensor, attrs: relax.op.op_attrs.Conv2DAttrs) -> te.Tensor:
    top, left, bottom, right = (int(amount) for amount in attrs.padding)
    stride_h, stride_w = (int(stride) for stride in attrs.strides)
    dilation_h, dilation_w = (int(dilation) for dilation in attrs.dilation)
    n, channels, height, width = (int(extent) for extent in x.shape)
    filters, per_group, kernel_h, kernel_w = (int(extent) for extent in w.shape)
    out_h = (height + top + bottom - dilation_h * (kernel_h - 1) - 1) // stride_h + 1
    out_w = (width + left + right - dilation_w * (kernel_w - 1) - 1) // stride_w + 1
    row = width + left + right
    needed = (out_h - 1) * stride_h * row + (out_w - 1) * stride_w + 1
    vectors = -(-needed // VECTOR)
    while vectors > 8 and all(vectors % tile for tile in range(2, 9)):
        vectors += 1  # until some tile divides
    plane = VECTOR * vectors
    reach = plane + dilation_h * (kernel_h - 1) * row + dilation_w * (kernel_w - 1)
    missing = max(0, -(-reach // row) - (height + top + bottom))  # rows that the last vector reaches beyond the image
    padded = pad_image(x, top, left, bottom + missing, right, image_axis=2)
    c = te.reduce_axis((0, per_group), "c")
    r, s = te.reduce_axis((0, kernel_h), "r"), te.reduce_axis((0, kernel_w), "s")
    k_per_group = filters * per_group // channels

    def direct(b: tirx.Var, k: tirx.Var, p: tirx.Var) -> Expr:
        channel = c if per_group == channels else k // k_per_group * per_group + c
        position = p + r * (dilation_h * row) + s * dilation_w
        return te.sum(padded[b, channel, position // row, position % row] * w[k, c, r, s], axis=[c, r, s])

    flat = te.compute((n, filters, plane), direct, name="conv2d_plane")
    return te.compute((n, filters, out_h, out_w), lambda b, k, h, v: flat[b, k, h * (stride_h * row) + v * stride_w], name="crop")


def flat_plane_pays(call: relax.Call) -> bool:
    """Strides up to two: the plane is computed at every position, so larger strides would mostly compute what nobody reads."""
    attrs = call.attrs
    static = all(isinstance(argument.ty.shape, relax.ShapeExpr) for argument in call.args)
    return bool(
        static
        and (attrs.data_layout, attrs.kernel_layout, attrs.out_layout) == ("NCHW", "OIHW", "NCHW")
        and max(int(stride) for stride in attrs.strides) <= 2
        and call.args[0].ty.dtype.dtype == "float32"
    )


def lower_conv2d(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    blocked = call.attrs.out_layout.startswith("NCHW") and call.attrs.out_layout.endswith("c")
    if not blocked and not flat_plane_pays(call):
        return _nn_conv2d(builder, call)
    return builder.call_te(conv2d_nchwc if blocked else conv2d_nchw, *call.args, call.attrs, primfunc_name_hint="conv2d")
