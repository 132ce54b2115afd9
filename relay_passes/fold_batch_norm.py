"""Fold scales and shifts of channels, batch normalisation above all, into the constants of the layer before.

    y = batch_norm(x, gamma, beta, mean, var)   ->   y = x * (gamma / sqrt(var + eps)) + (beta - mean * gamma / sqrt(var + eps))
    y = conv2d(x, w) * s + b                    ->   y = conv2d(x, w * s) + b
    y = (x * a + b) * c + d                     ->   y = x * (a * c) + (b * c + d)

The same for conv2d_transpose and matmul with constant weights. Products of constants are taken in float64 and rounded once.
"""

import numpy as np
from tvm import relax

from relay_passes.rewrite import Graph, array, blank, constant, dtype, is_tensor, op_name, rewrite_pass, rewrites, shape

LAYERS = ("relax.nn.conv2d", "relax.nn.conv2d_transpose", "relax.matmul")


def rounded(value: np.ndarray, like: relax.Expr) -> relax.Expr:
    """A constant in the dtype of `like`."""
    return constant(value.astype(dtype(like)))


def wide(expr: relax.Expr) -> np.ndarray | None:
    """A floating-point constant in float64."""
    value = array(expr)
    return value.astype("float64") if value is not None and dtype(expr).startswith("float") else None


@rewrites("TupleGetItem")
def to_scale_and_shift(item: relax.TupleGetItem, graph: Graph) -> relax.Expr | None:
    norm = graph.source(item.tuple_value)
    if op_name(norm) != "relax.nn.batch_norm" or item.index != 0 or norm.attrs.training or not is_tensor(norm.args[0]):
        return None
    data = norm.args[0]
    gamma, beta, mean, variance = (wide(argument) for argument in norm.args[1:])
    if gamma is None or beta is None or mean is None or variance is None:
        return None
    scale = (gamma if norm.attrs.scale else 1.0) / np.sqrt(variance + float(norm.attrs.epsilon))
    shift = (beta if norm.attrs.center else 0.0) - mean * scale
    extents = [1] * len(shape(data))
    extents[int(norm.attrs.axis)] = -1
    scaled = relax.op.multiply(data, rounded(scale.reshape(extents), data))
    return relax.op.add(scaled, rounded(shift.reshape(extents), data))


def weight_scale(layer: relax.Call, scale: np.ndarray) -> np.ndarray | None:
    """A scale of the layer's output as a scale of its weight; None where it differs over more than channels."""
    name, weight = op_name(layer), shape(layer.args[1])
    rank = len(shape(layer))
    scale = scale.reshape((1,) * (rank - scale.ndim) + scale.shape)
    if scale.size == 1:
        return scale.reshape((1,) * len(weight))
    if name == "relax.matmul":
        return scale.reshape((1,) * (len(weight) - 1) + (-1,)) if scale.size == scale.shape[-1] and len(weight) > 1 else None
    if layer.attrs.out_layout != "NCHW" or scale.size != scale.shape[1]:
        return None
    if name == "relax.nn.conv2d" and layer.attrs.kernel_layout == "OIHW":
        return scale.reshape(-1, 1, 1, 1)
    if name == "relax.nn.conv2d_transpose" and layer.attrs.kernel_layout == "IOHW" and int(layer.attrs.groups) == 1:
        return scale.reshape(1, -1, 1, 1)
    return None


@rewrites("relax.multiply")
def scale_into_weight(call: relax.Call, graph: Graph) -> relax.Expr | None:
    scale, layer = wide(call.args[1]), graph.source(call.args[0])
    if scale is None or op_name(layer) not in LAYERS or not graph.once(call.args[0]) or shape(call) != shape(layer):
        return None
    weight, aligned = array(layer.args[1]), weight_scale(layer, scale)
    if weight is None or weight.dtype.kind != "f" or aligned is None:
        return None
    product = np.multiply(weight, aligned, out=blank(weight.shape, weight.dtype), dtype="float64", casting="same_kind")
    return relax.Call(layer.op, [layer.args[0], constant(product)], layer.attrs)


def affine_root(expr: relax.Expr, graph: Graph) -> str:
    """The operator under a chain of additions and multiplications of constants that nothing else reads."""
    source = graph.source(expr)
    while op_name(source) in ("relax.add", "relax.multiply") and graph.once(expr) and array(source.args[1]) is not None:
        expr = source.args[0]
        source = graph.source(expr)
    return op_name(source) if graph.once(expr) else ""


@rewrites("relax.multiply")
def scale_before_shift(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """`(x + b) * c -> x * c + b * c`, only where `x * c` will be absorbed: by a layer, or by another scale."""
    scale, inner = wide(call.args[1]), graph.only(call.args[0], "relax.add")
    shift = wide(inner.args[1]) if inner is not None else None
    if inner is None or scale is None or shift is None or not shape(call) == shape(inner) == shape(inner.args[0]):
        return None
    scaled = graph.only(inner.args[0], "relax.multiply")
    if affine_root(inner.args[0], graph) not in LAYERS and (scaled is None or array(scaled.args[1]) is None):
        return None
    return relax.op.add(relax.op.multiply(inner.args[0], call.args[1]), rounded(shift * scale, call))


@rewrites("relax.multiply", "relax.add")
def merge_pair(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """`(x + b) + d -> x + (b + d)`, `(x * a) * c -> x * (a * c)`."""
    outer, inner = wide(call.args[1]), graph.only(call.args[0], op_name(call))
    first = wide(inner.args[1]) if inner is not None else None
    if inner is None or outer is None or first is None or not shape(call) == shape(inner) == shape(inner.args[0]):
        return None
    both = first + outer if op_name(call) == "relax.add" else first * outer
    if both.size > max(first.size, outer.size):
        return None
    return relax.Call(call.op, [inner.args[0], rounded(both, call)], call.attrs)


fold_batch_norm = rewrite_pass("fold_batch_norm", [to_scale_and_shift, merge_pair, scale_into_weight, scale_before_shift])
