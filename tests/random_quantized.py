"""Random small quantised networks as TFLite models: every operator that a pass, a kernel or the planner could get wrong, in any order.

    network = random_quantized(7)     the same network for the same seed, in every process
    network.data, network.inputs      the file, and the tensors it takes

`tests/compare_quantized.py` compares the C of these networks with TFLite Micro.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.frontends.tflite.build import Op, T, model, op
from tests.quantized_writer import Shape, Unsuitable, Writer, meaning_of

CHANNELS = (1, 2, 3, 4, 5, 7, 8, 8, 9, 12, 13, 16, 16, 17, 20, 24, 31, 32, 33)
KERNELS = (1, 1, 1, 2, 3, 3, 3, 3, 4, 5, 7)
ACTIVATIONS = ("NONE", "NONE", "NONE", "RELU", "RELU", "RELU6", "RELU_N1_TO_1")
PLAIN = {"padding": "SAME", "stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1}


@dataclass(frozen=True)
class Network:
    data: bytes
    inputs: Sequence[T]
    ops: Sequence[Op]


def window(size: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    """How many outputs there are along an axis."""
    return -(-size // stride) if padding == "SAME" else -(-(size - (kernel - 1) * dilation) // stride)


def filters(g: Writer, x: T, count: int, products: int, shape: Shape, axis: int) -> list[str]:
    """Weights with a scale for each filter or one for all, and perhaps a bias."""
    spread = g.rng.uniform(0.3, 1.7, count) / (74 * products**0.5)
    scales = np.float32(spread if g.chance(0.7) else spread[:1])
    weights = g.constant(g.weights(*shape), "int8", scale=scales.tolist(), axis=axis)
    if g.chance(0.2):
        return [weights]
    bias = g.rng.normal(0, 2000, count).round()
    return [weights, g.constant(bias, scale=(np.float32(x.scale) * scales).tolist())]


def windows(g: Writer, x: T) -> tuple[dict[str, Any], tuple[int, int], tuple[int, int]]:
    """Options, kernel and size of the result of a convolution."""
    kernel = (g.pick(KERNELS), g.pick(KERNELS)) if g.chance(0.4) else (g.pick(KERNELS),) * 2
    strides = g.pick(((1, 1), (1, 1), (1, 1), (2, 2), (2, 2), (3, 3), (1, 2), (2, 1)))
    dilation = (1, 1) if strides != (1, 1) or g.chance(0.7) else g.pick(((2, 2), (1, 2), (2, 1), (3, 3)))
    padding = g.pick(("SAME", "SAME", "VALID"))
    _, h, w, _ = x.shape
    size = (window(h, kernel[0], strides[0], dilation[0], padding), window(w, kernel[1], strides[1], dilation[1], padding))
    options = {
        "padding": padding, "stride_h": strides[0], "stride_w": strides[1], "dilation_h_factor": dilation[0],
        "dilation_w_factor": dilation[1], "fused_activation_function": g.pick(ACTIVATIONS),
    }  # fmt: skip
    return options, kernel, size


def conv(g: Writer) -> None:
    x = g.value(4)
    options, kernel, size = windows(g, x)
    count, channels = g.pick(CHANNELS), x.shape[3]
    parameters = filters(g, x, count, kernel[0] * kernel[1] * channels, (count, *kernel, channels), 0)
    g.emit("CONV_2D", [x.name, *parameters], (x.shape[0], *size, count), **options)


def depthwise(g: Writer) -> None:
    x = g.value(4)
    options, kernel, size = windows(g, x)
    multiplier = g.pick((1, 1, 1, 1, 2, 3, 8))
    count = x.shape[3] * multiplier
    parameters = filters(g, x, count, kernel[0] * kernel[1], (1, *kernel, count), 3)
    g.emit("DEPTHWISE_CONV_2D", [x.name, *parameters], (x.shape[0], *size, count), depth_multiplier=multiplier, **options)


def separable(g: Writer) -> None:
    """As mobile networks have it: depthwise, then 1x1, with what was before added where the shapes are alike."""
    x = g.value(4)
    channels = x.shape[3]
    first = filters(g, x, channels, 9, (1, 3, 3, channels), 3)
    inner = g.emit("DEPTHWISE_CONV_2D", [x.name, *first], tuple(x.shape), depth_multiplier=1, fused_activation_function="RELU", **PLAIN)
    second = filters(g, inner, channels, channels, (channels, 1, 1, channels), 0)
    outer = g.emit("CONV_2D", [inner.name, *second], tuple(x.shape), fused_activation_function="NONE", **PLAIN)
    g.emit("ADD", g.pick(([x.name, outer.name], [outer.name, x.name])), tuple(x.shape), fused_activation_function=g.pick(ACTIVATIONS))


def transposed_conv(g: Writer) -> None:
    x = g.value(4)
    n, h, w, channels = x.shape
    count, kernel, stride = g.pick((1, 3, 8)), g.between(1, 4), g.between(1, 2)
    size = (h * stride, w * stride)
    weights, *bias = filters(g, x, count, kernel * kernel * channels, (count, kernel, kernel, channels), 0)
    target = g.constant((n, *size, count))
    inputs = [target, weights, x.name, *bias]
    g.emit("TRANSPOSE_CONV", inputs, (n, *size, count), padding="SAME", stride_h=stride, stride_w=stride)


def dense(g: Writer) -> None:
    x = g.value(least=2)
    channels, count = int(x.shape[-1]), g.pick(CHANNELS)
    rows = int(np.prod(x.shape[:-1]))
    if len(x.shape) == 4 and g.chance(0.5):
        rows, channels = int(x.shape[0]), int(np.prod(x.shape[1:]))
    if channels * count > 20000:
        raise Unsuitable
    keep = len(x.shape) < 4 and g.chance(0.3)
    result = (*x.shape[:-1], count) if keep else (rows, count)
    parameters = filters(g, x, count, channels, (count, channels), 0)
    g.emit("FULLY_CONNECTED", [x.name, *parameters], result, fused_activation_function=g.pick(ACTIVATIONS), keep_num_dims=keep)


def matmul(g: Writer) -> None:
    x = g.value(least=2)
    other = g.pick(
        [t for t in g.live.values() if t.shape[:-2] == x.shape[:-2] and len(t.shape) > 1 and t.shape[-2] == x.shape[-1]] or [None]
    )
    if other is None:
        raise Unsuitable
    g.emit("BATCH_MATMUL", [x.name, other.name], (*x.shape[:-1], other.shape[-1]), adj_x=False, adj_y=False)


def broadcasts(a: Sequence[int], b: Sequence[int]) -> bool:
    return all(p == q or 1 in (p, q) for p, q in zip(reversed(a), reversed(b), strict=False))


def arithmetic(g: Writer) -> None:
    """Of two tensors, one and itself, or one and a constant, which broadcast."""
    x = g.value()
    kind = g.pick(("ADD", "ADD", "ADD", "SUB", "MUL", "MUL", "SQUARED_DIFFERENCE"))
    if g.chance(0.35):
        shape = [extent if g.chance(0.6) else 1 for extent in x.shape][g.between(0, len(x.shape)) :]
        other = g.constant(g.weights(*shape), "int8", scale=g.meaning(0.02)[0], zero_point=g.between(-20, 20))
    else:
        y = g.pick([t for t in g.live.values() if broadcasts(t.shape, x.shape)])
        shape, other = list(y.shape), y.name
    pair = [x.name, other] if g.chance(0.6) else [other, x.name]
    options = {} if kind == "SQUARED_DIFFERENCE" else {"fused_activation_function": g.pick(ACTIVATIONS)}
    g.emit(kind, pair, np.broadcast_shapes(tuple(x.shape), tuple(shape)), **options)


def extremum(g: Writer) -> None:
    x = g.value()
    y = g.pick([t for t in g.live.values() if broadcasts(t.shape, x.shape)])
    shape = np.broadcast_shapes(tuple(x.shape), tuple(y.shape))
    g.emit(g.pick(("MAXIMUM", "MINIMUM")), [x.name, g.like(y, meaning_of(x)).name], shape, meaning=meaning_of(x))


def pool(g: Writer) -> None:
    x = g.value(4)
    n, h, w, c = x.shape
    kernel, strides = (g.between(1, 4), g.between(1, 4)), (g.between(1, 3), g.between(1, 3))
    if g.chance(0.2):
        kernel = (h, w)
    padding = g.pick(("SAME", "VALID"))
    size = (window(h, kernel[0], strides[0], 1, padding), window(w, kernel[1], strides[1], 1, padding))
    g.emit(
        g.pick(("AVERAGE_POOL_2D", "MAX_POOL_2D")), [x.name], (n, *size, c), meaning=meaning_of(x), padding=padding, stride_h=strides[0],
        stride_w=strides[1], filter_height=kernel[0], filter_width=kernel[1], fused_activation_function=g.pick(ACTIVATIONS),
    )  # fmt: skip


def reduced(g: Writer) -> None:
    x = g.value(4) if g.chance(0.8) else g.value(least=2)
    rank = len(x.shape)
    axes = g.pick(((1, 2), (1, 2), (2, 1), (1,), (2,), (3,), (-1,), (1, 2, 3), (-2, -3))) if rank == 4 else (g.between(1, rank - 1),)
    kind, keep = g.pick(("MEAN", "MEAN", "MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")), g.chance(0.5)
    gone = {axis % rank for axis in axes}
    shape = tuple(1 if axis in gone else extent for axis, extent in enumerate(x.shape) if keep or axis not in gone)
    same = kind.startswith("REDUCE") or (kind == "MEAN" and g.chance(0.3))
    g.emit(kind, [x.name, g.constant(axes)], shape, meaning=meaning_of(x) if same else None, scale=0.02, keep_dims=keep)


def function(g: Writer) -> None:
    """Of one element, or of one row of channels; some have a scale that TFLite demands."""
    x = g.value()
    shape = tuple(x.shape)
    kind = g.pick(("LOGISTIC", "TANH", "LEAKY_RELU", "HARD_SWISH", "RELU", "RELU6", "ELU", "ABS", "PRELU", "SOFTMAX", "L2_NORMALIZATION"))
    fixed = {"LOGISTIC": (1 / 256, -128), "SOFTMAX": (1 / 256, -128), "TANH": (1 / 128, 0), "L2_NORMALIZATION": (1 / 128, 0)}
    options: dict[str, Any] = {"LEAKY_RELU": {"alpha": g.pick((0.1, 0.3, 1.5))}, "SOFTMAX": {"beta": 1.0}}.get(kind, {})
    inputs = [x.name]
    if kind == "PRELU":
        if len(shape) != 4:
            raise Unsuitable
        inputs.append(g.constant(g.weights(*g.pick(((1, 1, shape[3]), shape[1:]))), "int8", scale=0.01, zero_point=g.between(-9, 9)))
    fixed["RELU6"] = meaning_of(x)  # TFLite Micro does not rescale there
    g.emit(kind, inputs, shape, meaning=fixed.get(kind), scale=0.02, **options)


def swish(g: Writer) -> None:
    x = g.value()
    gate = g.emit("LOGISTIC", [x.name], tuple(x.shape), meaning=(1 / 256, -128))
    g.emit("MUL", [x.name, gate.name], tuple(x.shape), scale=0.02, fused_activation_function="NONE")


def squeeze_excite(g: Writer) -> None:
    x = g.value(4)
    n, _, _, c = x.shape
    mean = g.emit("MEAN", [x.name, g.constant((1, 2))], (n, 1, 1, c), scale=0.02, keep_dims=True)
    parameters = filters(g, mean, c, c, (c, 1, 1, c), 0)
    inner = g.emit("CONV_2D", [mean.name, *parameters], (n, 1, 1, c), fused_activation_function="NONE", **PLAIN)
    gate = g.emit("LOGISTIC", [inner.name], (n, 1, 1, c), meaning=(1 / 256, -128))
    g.emit("MUL", g.pick(([x.name, gate.name], [gate.name, x.name])), tuple(x.shape), fused_activation_function="NONE")


def requantized(g: Writer) -> None:
    x = g.value()
    g.emit("QUANTIZE", [x.name], tuple(x.shape), scale=float(x.scale) * g.pick((0.5, 1.0, 2.0)))


def concat(g: Writer) -> None:
    x = g.value()
    axis = g.pick((len(x.shape) - 1, g.between(0, len(x.shape) - 1)))
    apart = (*x.shape[:axis], *x.shape[axis + 1 :])
    alike = [t for t in g.live.values() if len(t.shape) == len(x.shape) and (*t.shape[:axis], *t.shape[axis + 1 :]) == apart]
    parts = [x] + [g.pick(alike) for _ in range(g.between(1, 3))]
    g.rng.shuffle(parts)
    meaning = meaning_of(g.pick(parts))
    same = [g.like(part, meaning) for part in parts]
    shape = tuple(sum(part.shape[axis] for part in parts) if k == axis else extent for k, extent in enumerate(x.shape))
    g.emit("CONCATENATION", [part.name for part in same], shape, meaning=meaning, axis=axis, fused_activation_function="NONE")


def packed(g: Writer) -> None:
    x = g.value()
    parts = [x, g.pick([t for t in g.live.values() if t.shape == x.shape])]
    if len(x.shape) > 3:
        raise Unsuitable
    axis = g.between(0, len(x.shape))
    same = [g.like(part, meaning_of(x)) for part in parts]
    shape = (*x.shape[:axis], 2, *x.shape[axis:])
    g.emit("PACK", [part.name for part in same], shape, meaning=meaning_of(x), axis=axis, values_count=2)


def split(g: Writer) -> None:
    x = g.value()
    axis = g.pick((len(x.shape) - 1, g.between(0, len(x.shape) - 1)))
    size = int(x.shape[axis])
    count = g.pick([k for k in (2, 3, 4) if size % k == 0] or [0])

    def part(extent: int) -> Shape:
        return tuple(extent if k == axis else other for k, other in enumerate(x.shape))

    if count and g.chance(0.6):
        g.emit("SPLIT", [g.constant(axis), x.name], *[part(size // count)] * count, meaning=meaning_of(x), num_splits=count)
    elif size > 2:
        first = g.between(1, size - 1)
        sizes = g.constant((first, size - first))
        parts = [part(first), part(size - first)]
        g.emit("SPLIT_V", [x.name, sizes, g.constant(axis)], *parts, meaning=meaning_of(x), num_splits=2)
    else:
        raise Unsuitable


def sliced(g: Writer) -> None:
    x = g.value()
    begin = [g.between(0, extent - 1) if g.chance(0.5) else 0 for extent in x.shape]
    end = [g.between(first + 1, extent) if g.chance(0.5) else extent for first, extent in zip(begin, x.shape, strict=True)]
    if g.chance(0.5):
        shape = tuple(last - first for first, last in zip(begin, end, strict=True))
        g.emit("SLICE", [x.name, g.constant(begin), g.constant(shape)], shape, meaning=meaning_of(x))
        return
    steps = [g.pick((1, 1, 2, 3)) for _ in x.shape]
    shape = tuple(len(range(*bounds)) for bounds in zip(begin, end, steps, strict=True))
    masks = {"begin_mask": 0, "end_mask": 0, "ellipsis_mask": 0, "new_axis_mask": 0, "shrink_axis_mask": 0, "offset": False}
    g.emit("STRIDED_SLICE", [x.name, g.constant(begin), g.constant(end), g.constant(steps)], shape, meaning=meaning_of(x), **masks)


def padded(g: Writer) -> None:
    x = g.value()
    most = g.pick((1, 2, 3))
    widths = [(g.between(0, most), g.between(0, most)) if g.chance(0.6) else (0, 0) for _ in x.shape]
    mirrored = g.chance(0.2)
    if mirrored:
        widths = [(min(a, extent - 1), min(b, extent - 1)) for (a, b), extent in zip(widths, x.shape, strict=True)]
    shape = tuple(extent + sum(width) for extent, width in zip(x.shape, widths, strict=True))
    inputs = [x.name, g.constant(widths)]
    if mirrored:
        g.emit("MIRROR_PAD", inputs, shape, meaning=meaning_of(x), mode=g.pick(("REFLECT", "SYMMETRIC")))
    elif g.chance(0.3):
        value = g.constant([g.between(-128, 127)], "int8", scale=x.scale, zero_point=x.zero_point)
        g.emit("PADV2", [*inputs, value], shape, meaning=meaning_of(x))
    else:
        g.emit("PAD", inputs, shape, meaning=meaning_of(x))


def factors(g: Writer, count: int, rank: int) -> Shape:
    shape = []
    for _ in range(rank - 1):
        shape.append(g.pick([k for k in range(1, 20) if count % k == 0]))
        count //= shape[-1]
    return (*shape, count) if g.chance(0.5) else (count, *shape)


def reshaped(g: Writer) -> None:
    x = g.value()
    count = int(np.prod(x.shape))
    shape = (1, *factors(g, count, 3)) if g.chance(0.6) else factors(g, count, g.between(1, 4))
    g.emit("RESHAPE", [x.name, g.constant(shape)], shape, meaning=meaning_of(x))


def transposed(g: Writer) -> None:
    x = g.value(least=2)
    order = [int(axis) for axis in g.rng.permutation(len(x.shape))]
    g.emit("TRANSPOSE", [x.name, g.constant(order)], tuple(x.shape[axis] for axis in order), meaning=meaning_of(x))


def resized(g: Writer) -> None:
    x = g.value(4)
    size = (g.between(1, 9), g.between(1, 9)) if g.chance(0.5) else (2 * x.shape[1], 2 * x.shape[2])
    align, half = g.pick(((False, False), (True, False), (False, True)))
    g.emit(
        g.pick(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")), [x.name, g.constant(size)], (x.shape[0], *size, x.shape[3]),
        meaning=meaning_of(x), align_corners=align, half_pixel_centers=half,
    )  # fmt: skip


def blocks(g: Writer) -> None:
    x = g.value(4)
    n, h, w, c = x.shape
    if h % 2 == w % 2 == 0:
        g.emit("SPACE_TO_DEPTH", [x.name], (n, h // 2, w // 2, 4 * c), meaning=meaning_of(x), block_size=2)
    elif c % 4 == 0:
        g.emit("DEPTH_TO_SPACE", [x.name], (n, 2 * h, 2 * w, c // 4), meaning=meaning_of(x), block_size=2)
    else:
        raise Unsuitable


def gathered(g: Writer) -> None:
    x = g.value()
    axis = g.between(0, len(x.shape) - 1)
    places = g.rng.integers(0, x.shape[axis], g.between(1, 6))
    shape = (*x.shape[:axis], len(places), *x.shape[axis + 1 :])
    g.emit("GATHER", [x.name, g.constant(places)], shape, meaning=meaning_of(x), axis=axis, batch_dims=0)


LAYERS = {
    conv: 7, depthwise: 5, separable: 2, transposed_conv: 0.5, dense: 3, matmul: 0.5, arithmetic: 5, extremum: 1, pool: 3, reduced: 2,
    function: 3, swish: 1, squeeze_excite: 1, requantized: 1, concat: 2.5, packed: 0.4, split: 1.5, sliced: 1.5, padded: 1.5, reshaped: 1.5,
    transposed: 1, resized: 1, blocks: 0.5, gathered: 0.5,
}  # fmt: skip


def random_quantized(seed: int) -> Network:
    """One or two inputs, up to sixteen layers, one to four outputs."""
    g = Writer(seed)
    for _ in range(g.pick((1, 1, 1, 2))):
        batch = g.pick((1, 1, 1, 1, 2))
        g.input((batch, g.between(1, 12), g.between(1, 12), g.pick(CHANNELS)) if g.chance(0.9) else (batch, g.between(1, 40)))
    layers, odds = list(LAYERS), np.array(list(LAYERS.values()))
    wanted = len(g.ops) + g.between(1, 16)
    while len(g.ops) < wanted:
        try:
            layers[int(g.rng.choice(len(layers), p=odds / odds.sum()))](g)
        except Unsuitable:
            continue
    made = [name for name in g.tensors if len(np.unique(g.samples[name])) > 3] or list(g.tensors)
    outputs = dict.fromkeys([made[-1], *(g.pick(made) for _ in range(g.pick((0, 0, 1, 1, 2, 3))))])
    if g.chance(0.3):
        finish(g, g.tensors[g.pick(list(outputs))], outputs)
    used = {name for node in g.ops for name in node.inputs}
    constants = [constant for name, constant in g.constants.items() if name in used]
    data = model(g.inputs, g.ops, list(outputs), tensors=list(g.tensors.values()), constants=constants)
    return Network(data, g.inputs, g.ops)


def finish(g: Writer, last: T, outputs: dict[str, None]) -> None:
    """An output that is another one in another shape, or in floats; the other stays an output now and then."""
    shape = (int(np.prod(last.shape)),)
    if g.chance(0.6):
        name = g.emit("RESHAPE", [last.name, g.constant(shape)], shape, meaning=meaning_of(last)).name
    else:
        g.tensors["floats"] = T("floats", last.shape, "float32")
        g.ops.append(op("DEQUANTIZE", [last.name], ["floats"]))
        name = "floats"
    if g.chance(0.5):
        del outputs[last.name]
    outputs[name] = None
