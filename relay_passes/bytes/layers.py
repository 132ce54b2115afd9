"""Convolutions and dense layers of bytes with constant weights.

    conv2d(dequantize(x), dequantize(w))                          ->   call_tir(conv2d, (x, packed w, bias, scale))   float32
    quantize(relu(conv2d(dequantize(x), dequantize(w)) + b))      ->   quantize(relu(call_tir(conv2d, ...)), scale 1)

In the second form the scale of the result is part of the layer's, and the bias of its sums, as ONNX Runtime has it: the sum in int32, times
(scale of x * scale of w / scale of y) in float32, rounded to the nearest, ties to even, then moved by the zero point.

The zero point of x is folded into the bias, which is exact: beyond the border x is its zero point. One of the weights is folded into them;
where they then need a ninth bit they are two sums of bytes, over the same channels twice.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
from tvm import relax, te

from relay_passes.bytes import dot
from relay_passes.bytes.dot import Window
from relay_passes.integers.convolution import spread_groups
from relay_passes.integers.island import Operand, operand
from relay_passes.integers.programs import OUT_EWISE_FUSABLE, Programs, placeholder
from relay_passes.rewrite import Graph, array, constant, dtype, op_name, shape

Array = np.ndarray
SPREAD = 4  # groups up to which a convolution over all channels, zero outside the group, is faster than one in floats
INT32 = np.iinfo("int32")


@dataclass(frozen=True)
class Layer:
    """One layer whose sums are of bytes. `weights` are [filters, R, S, channels], or [R, S, channels] of a depthwise convolution, as int16
    without zero point; `image` is [n, h, w, channels]."""

    x: Operand
    image: relax.Expr
    weights: Array
    weight_scale: Array
    window: Window
    shape: tuple[int, ...]

    @property
    def depthwise(self) -> bool:
        return self.weights.ndim == 3

    @property
    def filters(self) -> int:
        return int(self.weights.shape[2] if self.depthwise else self.weights.shape[0])

    @property
    def product_scale(self) -> Array:
        """What one unit of each filter's sum is worth, float32."""
        scale = np.float32(self.x.one_scale) * self.weight_scale.astype("float32").reshape(-1)
        return np.broadcast_to(scale, (self.filters,)).astype("float32")

    @property
    def sums(self) -> Array:
        """Of each filter's weights."""
        axes = (0, 1) if self.depthwise else (1, 2, 3)
        total: Array = self.weights.astype("int64").sum(axis=axes)
        return total


def signed_weights(w: Operand) -> Array | None:
    """Constant weights less their zero point, int16; None where they are no bytes or have a scale for each of something else."""
    values = w.array
    if values is None or values.dtype not in (np.int8, np.uint8):
        return None
    extents = [-1 if axis == w.axis else 1 for axis in range(values.ndim)]
    zero = w.zero.reshape(extents) if w.zero.size > 1 else w.zero.reshape(())
    return (values.astype("int32") - zero).astype("int16")


def fits(weights: Array) -> bool:
    return weights.size == 0 or bool(weights.min() >= -128 and weights.max() <= 127)


def activation(expr: relax.Expr, graph: Graph) -> Operand | None:
    """Unsigned bytes of one scale and zero point that are computed at run time."""
    x = operand(expr, graph)
    return x if x is not None and x.uniform and x.dtype == "uint8" and x.array is None else None


def parse(call: relax.Expr, graph: Graph) -> Layer | None:
    """The layer that `call` is, None where it is none, or one that is better left in floats."""
    if op_name(call) == "relax.nn.conv2d":
        return convolution(call, graph)
    return dense(call, graph) if op_name(call) == "relax.matmul" else None


def convolution(call: relax.Call, graph: Graph) -> Layer | None:
    attrs = call.attrs
    if (str(attrs.data_layout), str(attrs.out_layout)) != ("NHWC", "NHWC"):
        return None
    x, w = activation(call.args[0], graph), operand(call.args[1], graph)
    weights = filters_first(call, w) if w is not None else None
    if x is None or w is None or weights is None:
        return None
    window = Window(
        strides=(int(attrs.strides[0]), int(attrs.strides[1])),
        dilation=(int(attrs.dilation[0]), int(attrs.dilation[1])),
        pad=tuple(int(amount) for amount in attrs.padding),  # type: ignore[arg-type]  # four of them
    )
    channels, groups = shape(x.value)[3], int(attrs.groups)
    if is_depthwise(weights, groups, channels):
        return Layer(x, x.value, weights[..., 0].transpose(1, 2, 0), w.scale, window, shape(call))
    return Layer(x, x.value, spread_groups(weights, channels) if groups > 1 else weights, w.scale, window, shape(call))


def is_depthwise(weights: Array, groups: int, channels: int) -> bool:
    return groups == channels == weights.shape[0] and weights.shape[3] == 1 < channels


def filters_first(call: relax.Call, w: Operand) -> Array | None:
    """The weights as [filters, R, S, channels]; None where sums of bytes are not possible or do not pay."""
    layout, weights = str(call.attrs.kernel_layout), signed_weights(w)
    if weights is None or sorted(layout) != sorted("OIHW") or (not w.uniform and w.axis != layout.index("O")):
        return None
    weights = weights.transpose([layout.index(letter) for letter in "OHWI"])
    groups = int(call.attrs.groups)
    channels = weights.shape[3] * groups
    if is_depthwise(weights, groups, channels):
        return weights if fits(weights) else None
    return weights if groups <= SPREAD else None


def dense(call: relax.Call, graph: Graph) -> Layer | None:
    """matmul(x [..., channels], w [channels, filters])."""
    x, w = activation(call.args[0], graph), operand(call.args[1], graph)
    weights = signed_weights(w) if w is not None else None
    if x is None or w is None or weights is None or weights.ndim != 2 or (not w.uniform and w.axis != 1):
        return None
    rows, channels = prod(shape(x.value)[:-1]), shape(x.value)[-1]
    image = relax.op.reshape(x.value, (1, 1, rows, channels))
    return Layer(x, image, np.ascontiguousarray(weights.T)[:, None, None, :], w.scale, Window(), shape(call))


def bias_of(expr: relax.Expr, layer: Layer, graph: Graph) -> Array | None:
    """A constant for each filter in units of the layer's sums, None for anything else."""
    unit = layer.product_scale.astype("float64")
    given = operand(expr, graph)
    if given is not None and given.array is not None and given.array.dtype == np.int32 and not given.zero.any():
        values, scale = given.array.reshape(-1), given.scale.reshape(-1).astype("float64")
        if values.size == layer.filters and np.allclose(scale, unit, rtol=1e-3, atol=0.0):
            return values.astype("int64")
    known = array(expr)
    if given is not None and given.array is not None:
        known = ((given.array.astype("int64") - given.zero).astype("float32") * given.scale.astype("float32")) if given.uniform else None
    if known is None or known.dtype != np.float32 or known.size != layer.filters or known.shape[-1] != layer.filters or (unit == 0).any():
        return None
    whole = np.rint(known.reshape(-1).astype("float64") / unit)
    return whole.astype("int64") if np.abs(whole).max() < INT32.max // 4 else None


def emit(layer: Layer, programs: Programs, bias: Array | None = None, divisor: float = 1.0) -> relax.Expr:
    """float32: the sums with their bias, times the scales of x and of the weights over `divisor`."""
    start = np.zeros(layer.filters, "int64") if bias is None else bias
    folded = constant((start - layer.x.one_zero * layer.sums).astype("int32"))
    scale = constant(layer.product_scale / np.float32(divisor))
    x, vectors = image_placeholder(layer.image), [te.placeholder((layer.filters,), kind, name) for kind, name in VECTORS]
    weights, times = layer.weights, 1
    if not fits(weights):
        low = np.clip(weights, -128, 127)
        weights, times = np.concatenate([low, weights - low], axis=3), 2
    packed = constant(np.ascontiguousarray(weights.astype("int8")) if layer.depthwise else dot.pack(weights.astype("int8")))
    w = placeholder(packed, "w")
    if layer.depthwise:
        acc, name = dot.depthwise(x, w, layer.window, layer.x.one_zero), "depthwise"
    else:
        acc, name = dot.conv2d(x, w, layer.window, layer.x.one_zero, times), "dense" if len(layer.shape) != 4 else "conv2d"
    result = dot.rescaled(acc, *vectors)
    call = programs.call(name, [x, w, *vectors, result], [layer.image, packed, folded, scale], pattern=OUT_EWISE_FUSABLE)
    made = tuple(int(extent) for extent in result.shape)
    return call if made == layer.shape else relax.op.reshape(call, layer.shape)


VECTORS = (("int32", "bias"), ("float32", "scale"))


def image_placeholder(image: relax.Expr) -> te.Tensor:
    """`image` may be a reshape that no pass has bound yet, and so has no type."""
    if op_name(image) == "relax.reshape":
        extents = [int(extent) for extent in image.args[1].values]
        return te.placeholder(extents, dtype(image.args[0]), name="x")
    return placeholder(image, "x")
