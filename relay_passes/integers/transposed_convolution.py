"""A transposed convolution over int8 or int16 as the sum of what each pixel of the image adds to a pixel of the result.

    acc[h, v, f] = bias[f] + sum of (x[(h + top - r) / stride, (v + left - s) / stride, c] - x_zero) * w[f, r, s, c]

over those taps r, s for which both divisions leave nothing and stay inside the image. The zero point is not folded into the bias: how many
taps there are differs from pixel to pixel. Where x is int16, sums have 64 bits and are rounded once, as in any convolution.
"""

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.convolution import effective_scale, is_known, symmetric_weights
from relay_passes.integers.fixed_point import clamp, half_multiplier, quantize_multiplier, requantize_wide
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
    if x.dtype != island.output.dtype:
        return None
    wide = x.dtype == "int16"
    sums = "int64" if wide else "int32"
    zero = tirx.const(x.one_zero, sums)
    weights = np.ascontiguousarray(weights.transpose([layout.index(letter) for letter in "OHWI"]))
    filters, kernel_h, kernel_w, depth = weights.shape
    _, height, width, _ = shape(x.value)
    (stride_h, stride_w), (top, left) = attrs.strides, list(attrs.padding)[:2]
    data, taps = placeholder(x.value, "x"), te.placeholder(weights.shape, str(weights.dtype), name="w")
    scales = [te.placeholder((filters,), dtype, name=name) for name, dtype in (("bias", sums), ("multiplier", "int32"), ("shift", "int32"))]
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
        pixel = data[n, tirx.floordiv(row, int(stride_h)), tirx.floordiv(column, int(stride_w)), c].astype(sums) - zero
        met = te.if_then_else(meets, pixel, tirx.const(0, sums))
        return te.sum(met * taps[f, r, s, c].astype(sums), axis=[r, s, c])

    def result(n: tirx.Var, h: tirx.Var, v: tirx.Var, f: tirx.Var) -> tirx.Expr:
        start, multiplier, shift = (tensor[f] for tensor in scales)
        scaled = (requantize_wide if wide else requantize)(acc[n, h, v, f] + start, multiplier, shift)
        return clamp(scaled + island.output.one_zero, island.low, island.high).astype(island.output.dtype)

    acc = te.compute(island.shape, product, name="acc")
    factors, shifts = quantize_multiplier(effective_scale(island, filters))
    if wide:
        factors, shifts = half_multiplier(factors), 15 - shifts
    start = np.zeros(filters, sums) if island.bias is None else np.asarray(island.bias.array, sums).reshape(-1)
    tensors = [data, taps, *scales, te.compute(island.shape, result, name="conv2d_transpose")]
    arguments = [x.value, constant(weights), constant(start), constant(factors), constant(shifts)]
    return island.programs.call("conv2d_transpose", tensors, arguments)


LOWERINGS = {"relax.nn.conv2d_transpose": transposed}
