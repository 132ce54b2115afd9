"""A transposed convolution over int8 as the sum of what each pixel of the image adds to a pixel of the result.

    acc[h, v, f] = bias[f] + sum of (x[(h + top - r) / stride, (v + left - s) / stride, c] - x_zero) * w[f, r, s, c]

over those taps r, s for which both divisions leave nothing and stay inside the image. The zero point is not folded into the bias: how many
taps there are differs from pixel to pixel.
"""

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.convolution import effective_scale, is_known, symmetric_weights
from relay_passes.integers.fixed_point import clamp, quantize_multiplier
from relay_passes.integers.intrinsics import requantize
from relay_passes.integers.island import Island
from relay_passes.integers.programs import placeholder
from relay_passes.rewrite import constant, shape


def transposed(island: Island) -> relax.Expr | None:
    x, w = island.inputs
    attrs = island.call.attrs
    weights, layout = symmetric_weights(w), str(attrs.kernel_layout)
    plain = str(attrs.data_layout) == "NHWC" and int(attrs.groups) == 1 and all(int(item) == 1 for item in attrs.dilation)
    if weights is None or not plain or not is_known(island) or (w.scale.size > 1 and w.axis != layout.index("O")):
        return None
    weights = np.ascontiguousarray(weights.transpose([layout.index(letter) for letter in "OHWI"]))
    filters, kernel_h, kernel_w, depth = weights.shape
    _, height, width, _ = shape(x.value)
    (stride_h, stride_w), (top, left) = attrs.strides, list(attrs.padding)[:2]
    data, taps = placeholder(x.value, "x"), te.placeholder(weights.shape, "int8", name="w")
    bias, multiplier, shift = (te.placeholder((filters,), "int32", name=name) for name in ("bias", "multiplier", "shift"))
    r, s, c = (te.reduce_axis((0, extent), name) for extent, name in zip((kernel_h, kernel_w, depth), "rsc", strict=True))

    def product(n: tirx.Var, h: tirx.Var, v: tirx.Var, f: tirx.Var) -> tirx.Expr:
        row, column = h + int(top) - r, v + int(left) - s
        meets = te.all(
            row >= 0,
            row < height * int(stride_h),
            tirx.EQ(tirx.floormod(row, int(stride_h)), 0),
            column >= 0,
            column < width * int(stride_w),
            tirx.EQ(tirx.floormod(column, int(stride_w)), 0),
        )
        pixel = data[n, tirx.floordiv(row, int(stride_h)), tirx.floordiv(column, int(stride_w)), c].astype("int32") - x.one_zero
        return te.sum(te.if_then_else(meets, pixel, tirx.const(0, "int32")) * taps[f, r, s, c].astype("int32"), axis=[r, s, c])

    def result(n: tirx.Var, h: tirx.Var, v: tirx.Var, f: tirx.Var) -> tirx.Expr:
        value = requantize(acc[n, h, v, f] + bias[f], multiplier[f], shift[f]) + island.output.one_zero
        return clamp(value, island.low, island.high).astype("int8")

    acc = te.compute(island.shape, product, name="acc")
    factors, shifts = quantize_multiplier(effective_scale(island, filters))
    start = np.zeros(filters, "int32") if island.bias is None else np.asarray(island.bias.array, "int32").reshape(-1)
    tensors = [data, taps, bias, multiplier, shift, te.compute(island.shape, result, name="conv2d_transpose")]
    arguments = [x.value, constant(weights), constant(start), constant(factors), constant(shifts)]
    return island.programs.call("conv2d_transpose", tensors, arguments)


LOWERINGS = {"relax.nn.conv2d_transpose": transposed}
