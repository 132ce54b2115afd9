"""One form for each idea, so that later passes and schedule rules see few shapes.

    squeeze, expand_dims, flatten             ->   reshape             avg_pool2d over the whole image   ->   mean
    reshape(reshape(x)), reshape to itself    ->   one, none           sum of stack([a, b])              ->   add(a, b)
    add(c, x), multiply(c, x)                 ->   constant second     max of stack([a, b])              ->   maximum(a, b)
    subtract(x, c), divide(x, c)              ->   add, multiply       minimum(maximum(x, 0), 6)         ->   clip(x, 0, 6)
    concat of concat, take without checks     ->   one, with checks    (same axis; an index is clipped to the table)
    add(x, 0), multiply(x, 1), clip to all    ->   x                   conv1d, conv2d of width 1         ->   conv2d of height 1
    power(x, 2), power(x, 0.75) and their like  ->  products, roots    avg_pool2d that skips its border  ->   one that counts it, scaled

Numbers change by one rounding at most: a division by a constant becomes a multiplication by its reciprocal.
"""

from collections.abc import Callable

import numpy as np
from tvm import relax

from relay_passes.rewrite import Graph, array, constant, dtype, is_tensor, number, op_name, rewrite_pass, rewrites, shape

FOLD: dict[str, Callable[[relax.Expr, relax.Expr], relax.Expr]] = {
    "relax.sum": relax.op.add,
    "relax.max": relax.op.maximum,
    "relax.min": relax.op.minimum,
    "relax.prod": relax.op.multiply,
}
CLIPS = ("relax.maximum", "relax.minimum", "relax.clip", "relax.nn.relu", "relax.nn.relu6")
EVERYTHING = (-np.inf, np.inf)


def is_float(expr: relax.Expr) -> bool:
    return dtype(expr).startswith("float")


def scalar(value: float, like: relax.Expr) -> relax.Expr:
    return relax.const(value, dtype(like))


@rewrites("relax.squeeze", "relax.expand_dims", "relax.flatten")
def to_reshape(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    return relax.op.reshape(call.args[0], shape(call)) if is_tensor(call) else None


@rewrites("relax.reshape")
def one_reshape(call: relax.Call, graph: Graph) -> relax.Expr | None:
    source = graph.source(call.args[0])
    return relax.op.reshape(source.args[0], call.args[1]) if op_name(source) == "relax.reshape" else None


@rewrites("relax.reshape", "relax.broadcast_to", "relax.strided_slice", "relax.astype")
def no_change(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    """Whatever returns its input. A slice of the full shape is one only where it does not run backwards."""
    data = call.args[0]
    if not is_tensor(call) or not is_tensor(data) or shape(call) != shape(data) or dtype(call) != dtype(data):
        return None
    backwards = op_name(call) == "relax.strided_slice" and len(call.args) > 4 and any(int(step.value) < 0 for step in call.args[4].fields)
    return None if backwards else data


@rewrites("relax.concat")
def concat_of_one(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    parts = call.args[0]
    return parts.fields[0] if isinstance(parts, relax.Tuple) and len(parts.fields) == 1 else None


@rewrites("relax.concat")
def concat_of_concat(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """Each level would copy everything below it once more."""
    parts = call.args[0]
    if not isinstance(parts, relax.Tuple) or call.attrs.axis is None:
        return None
    flat, axis = [], int(call.attrs.axis) % len(shape(call))
    for part in parts.fields:
        inner = graph.only(part, "relax.concat")
        same = inner is not None and isinstance(inner.args[0], relax.Tuple) and int(inner.attrs.axis or 0) % len(shape(call)) == axis
        flat += list(inner.args[0].fields) if inner is not None and same else [part]
    return relax.op.concat(flat, axis) if len(flat) > len(parts.fields) else None


@rewrites(*FOLD)
def reduce_of_stack(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """ONNX's variadic Sum and Max arrive as a reduction over a new axis, which costs a copy of every operand."""
    stack = graph.source(call.args[0])
    if op_name(stack) != "relax.stack" or call.attrs.axis is None or not isinstance(stack.args[0], relax.Tuple):
        return None
    rank = len(shape(stack))
    if [int(axis) % rank for axis in call.attrs.axis] != [int(stack.attrs.axis or 0) % rank]:
        return None
    result, *others = stack.args[0].fields
    for other in others:
        result = FOLD[op_name(call)](result, other)
    return relax.op.reshape(result, shape(call)) if call.attrs.keepdims else result


@rewrites("relax.add", "relax.multiply", "relax.maximum", "relax.minimum")
def constant_second(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    left, right = call.args
    return relax.Call(call.op, [right, left], call.attrs) if array(left) is not None and array(right) is None else None


@rewrites("relax.add", "relax.multiply", "relax.maximum", "relax.minimum", "relax.subtract", "relax.divide")
def broadcast_is_implied(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """Elementwise operators broadcast by themselves."""
    operands = list(call.args)
    for index, operand in enumerate(operands):
        source, other = graph.source(operand), operands[1 - index]
        if op_name(source) == "relax.broadcast_to" and is_tensor(other) and shape(other) == shape(call):
            operands[index] = source.args[0]
            return relax.Call(call.op, operands, call.attrs)
    return None


@rewrites("relax.subtract")
def subtract_constant(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    value = array(call.args[1])
    return relax.op.add(call.args[0], constant(-value)) if value is not None and is_float(call) else None


@rewrites("relax.add", "relax.multiply", "relax.maximum", "relax.minimum", "relax.subtract", "relax.divide")
def scalar_constant(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    """A constant whose elements are all the same becomes one number, which programs then hold as a literal."""
    data, other = call.args
    if array(other) is None or not shape(other) or shape(call) != shape(data):
        return None
    value = number(other)
    return relax.Call(call.op, [data, relax.const(value, dtype(other))], call.attrs) if value is not None else None


@rewrites("relax.divide")
def divide_by_constant(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    value = array(call.args[1])
    if value is None or not is_float(call) or array(call.args[0]) is not None:
        return None
    with np.errstate(all="ignore"):
        reciprocal = (1 / value).astype(value.dtype)
    normal = np.isfinite(reciprocal) & (np.abs(reciprocal) >= np.finfo(value.dtype).tiny)
    return relax.op.multiply(call.args[0], constant(reciprocal)) if normal.all() else None


@rewrites("relax.add", "relax.multiply")
def neutral(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    value = array(call.args[1])
    nothing = 0 if op_name(call) == "relax.add" else 1
    if value is None or shape(call) != shape(call.args[0]) or not (value == nothing).all():
        return None
    return call.args[0]


@rewrites("relax.power")
def small_power(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    """Products and square roots, which vectors have. x^0.75 is what normalisation across channels asks for."""
    base, exponent = call.args
    if shape(base) != shape(call) or array(base) is not None:
        return None
    power = number(exponent)
    if power == 2:
        return relax.op.multiply(base, base)
    if power == 3:
        return relax.op.multiply(relax.op.multiply(base, base), base)
    if not is_float(call):
        return None
    if power == 0.5:
        return relax.op.sqrt(base)
    if power == 0.75:
        root = relax.op.sqrt(base)
        return relax.op.multiply(root, relax.op.sqrt(root))
    if power == -0.5:
        return relax.op.divide(relax.const(1.0, dtype(call)), relax.op.sqrt(base))
    return relax.op.divide(relax.const(1.0, dtype(call)), base) if power == -1 else None


def bounds(call: relax.Call) -> tuple[float, float] | None:
    """Limits of a clip, a relu, or a maximum or minimum with one number; None for anything else."""
    name, (low, high) = op_name(call), EVERYTHING
    if name == "relax.clip":
        return float(call.args[1].value), float(call.args[2].value)
    if name == "relax.nn.relu":
        return 0.0, high
    if name == "relax.nn.relu6":
        return 0.0, 6.0
    if name in ("relax.maximum", "relax.minimum") and shape(call) == shape(call.args[0]):
        limit = number(call.args[1])
        if limit is not None and not np.isnan(limit):
            return (limit, high) if name == "relax.maximum" else (low, limit)
    return None


@rewrites(*CLIPS)
def one_clip(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """Limits meet in one clip; a clip from zero up is a relu."""
    limits, data = bounds(call), call.args[0]
    if limits is None or not is_float(call):
        return None
    low, high = limits
    inner = graph.source(data)
    inner_limits = bounds(inner) if op_name(inner) in CLIPS and is_float(inner) else None
    if inner_limits is not None:
        data = inner.args[0]
        low, high = max(inner_limits[0], low), min(inner_limits[1], high)
        if low > high:
            return None
    if (low, high) == EVERYTHING:
        return data
    if (low, high) == (0.0, np.inf):
        new = relax.op.nn.relu(data)
    elif low == -np.inf:
        new = relax.op.minimum(data, scalar(high, call))
    elif high == np.inf:
        new = relax.op.maximum(data, scalar(low, call))
    else:
        new = relax.op.clip(data, relax.prim_value(low), relax.prim_value(high))
    return new if inner_limits is not None or op_name(new) != op_name(call) else None


@rewrites("relax.take")
def safe_take(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    """An index outside the table must not read outside memory: take the nearest row instead."""
    attrs = call.attrs
    if attrs.mode != "fast":
        return None
    return relax.op.take(call.args[0], call.args[1], None if attrs.axis is None else int(attrs.axis), mode="clip")


@rewrites("relax.nn.avg_pool2d", "relax.nn.adaptive_avg_pool2d")
def whole_image(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    data, attrs = call.args[0], call.attrs
    if attrs.layout != "NCHW" or attrs.out_layout != "NCHW" or not is_tensor(data) or shape(call)[2:] != (1, 1):
        return None
    if op_name(call) == "relax.nn.avg_pool2d" and (tuple(map(int, attrs.pool_size)) != shape(data)[2:] or any(map(int, attrs.padding))):
        return None
    return relax.op.mean(data, axis=[2, 3], keepdims=True)


def held(size: int, window: int, stride: int, dilation: int, before: int, out: int) -> np.ndarray:
    """How many elements, not counting the border, each window along one axis holds."""
    taps = np.arange(out)[:, None] * stride - before + np.arange(window) * dilation
    result: np.ndarray = ((taps >= 0) & (taps < size)).sum(1)
    return result


@rewrites("relax.nn.avg_pool2d")
def count_border(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    """How many pixels each window holds is known here: counting them for each element again would keep it out of vectors."""
    data, attrs = call.args[0], call.attrs
    top, left, bottom, right = (int(amount) for amount in attrs.padding)
    if attrs.count_include_pad or attrs.ceil_mode or not (top or left or bottom or right) or not is_tensor(data) or not is_float(call):
        return None
    if (attrs.layout, attrs.out_layout) != ("NCHW", "NCHW"):
        return None
    windows, strides, dilations = (tuple(map(int, numbers)) for numbers in (attrs.pool_size, attrs.strides, attrs.dilation))
    sizes, out = shape(data)[2:], shape(call)[2:]
    rows, columns = (held(*numbers) for numbers in zip(sizes, windows, strides, dilations, (top, left), out, strict=True))
    if not rows.all() or not columns.all():
        return None
    scale = windows[0] * windows[1] / np.outer(rows, columns)
    pooled = relax.op.nn.avg_pool2d(data, windows, strides, (top, left, bottom, right), dilations, count_include_pad=True)
    return relax.op.multiply(pooled, constant(scale.astype(dtype(call))[None, None]))


@rewrites("relax.nn.conv1d")
def conv1d(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    attrs = call.attrs
    if (attrs.data_layout, attrs.kernel_layout, attrs.out_layout) != ("NCW", "OIW", "NCW") or attrs.out_dtype not in (None, "void"):
        return None
    (n, c, w), (o, i, k) = shape(call.args[0]), shape(call.args[1])
    left, right = map(int, attrs.padding)
    wide = relax.op.nn.conv2d(
        relax.op.reshape(call.args[0], (n, c, 1, w)),
        relax.op.reshape(call.args[1], (o, i, 1, k)),
        strides=(1, int(attrs.strides[0])),
        padding=(0, left, 0, right),
        dilation=(1, int(attrs.dilation[0])),
        groups=int(attrs.groups),
    )
    return relax.op.reshape(wide, shape(call))


@rewrites("relax.nn.conv2d")
def lie_down(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    """A column becomes a row, since rules make vectors along the width."""
    attrs, (data, weight) = call.attrs, call.args
    if (attrs.data_layout, attrs.kernel_layout, attrs.out_layout) != ("NCHW", "OIHW", "NCHW") or attrs.out_dtype not in (None, "void"):
        return None
    (n, c, h, w), (o, i, kh, kw), (top, left, bottom, right) = shape(data), shape(weight), map(int, attrs.padding)
    if w != 1 or kw != 1 or h == 1 or left or right:
        return None
    row = relax.op.nn.conv2d(
        relax.op.reshape(data, (n, c, 1, h)),
        relax.op.reshape(weight, (o, i, 1, kh)),
        strides=(1, int(attrs.strides[0])),
        padding=(0, top, 0, bottom),
        dilation=(1, int(attrs.dilation[0])),
        groups=int(attrs.groups),
    )
    return relax.op.reshape(row, shape(call))


canonicalize_ops = rewrite_pass(
    "canonicalize_ops",
    [
        to_reshape, no_change, one_reshape, concat_of_one, concat_of_concat, reduce_of_stack, constant_second, broadcast_is_implied,
        scalar_constant, subtract_constant, divide_by_constant, neutral, small_power, one_clip, safe_take, whole_image, count_border,
        conv1d, lie_down,
    ],
)  # fmt: skip
