"""Move reshapes behind elementwise work and normalisations, so that nothing stands between a layer and what is fused into it.

    y = matmul(x, w)                                         y = matmul(x, w)
    z = reshape(y, [1, 128, 384])                            r = add(y, reshape(residual, [128, 384]))
    r = add(z, residual)                               ->    n = layer_norm(r)
    n = layer_norm(r)                                        m = matmul(n, v)
    m = matmul(reshape(n, [128, 384]), v)

A reshape is a view and costs nothing, but a kernel ends at it. Constants are reshaped with their operand; another operand gets a view of
its own where a layer waits on this side and none on the other.
"""

from collections.abc import Sequence

import numpy as np
from tvm import relax

from relay_passes.canonicalize_ops import no_change, one_reshape
from relay_passes.elementwise import BINARY, UNARY, tensors, with_tensors
from relay_passes.rewrite import Graph, array, constant, is_tensor, op_name, rewrite_pass, rewrites, shape

RESHAPE = "relax.reshape"
LAYERS = ("relax.matmul", "relax.nn.conv2d", "relax.nn.conv2d_transpose")
NORMALISATIONS = ("relax.nn.softmax", "relax.nn.log_softmax", "relax.nn.layer_norm", "relax.nn.rms_norm")


def from_layer(expr: relax.Expr, graph: Graph) -> bool:
    """Whether a layer makes `expr`, with only elementwise work between, and nothing else reads any of it."""
    while graph.once(expr):
        source = graph.source(expr)
        name = op_name(source)
        if name in LAYERS:
            return True
        if name not in UNARY | BINARY:
            return False
        if any(from_layer(operand, graph) for operand in tensors(source)[1:]):
            return True
        expr = source.args[0]
    return False


def groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Axes of `old` and of `new` that hold the same elements: [4, 6, 5] and [24, 5] give ([0, 1], [0]) and ([2], [1])."""
    result, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        left, right = [i] if i < len(old) else [], [j] if j < len(new) else []
        i, j = i + len(left), j + len(right)
        while (a := int(np.prod([old[k] for k in left]))) != (b := int(np.prod([new[k] for k in right]))):
            if a < b:
                left.append(i)
                i += 1
            else:
                right.append(j)
                j += 1
        result.append((left, right))
    return result


def reshape_constant(value: np.ndarray, shown: Sequence[int], hidden: Sequence[int]) -> np.ndarray | None:
    """`value` broadcasts against `shown`; what broadcasts in the same way against `hidden`, the shape before the reshape."""
    if value.size == 1:
        return value.reshape(())
    value = value.reshape((1,) * (len(shown) - value.ndim) + value.shape)
    extents = [1] * len(hidden)
    for left, right in groups(shown, hidden):
        full = [value.shape[axis] == shown[axis] for axis in left if shown[axis] != 1]
        if full and all(full):
            for axis in right:
                extents[axis] = hidden[axis]
        elif any(full):
            return None
    return value.reshape(extents)


@rewrites(*UNARY)
def behind_unary(call: relax.Call, graph: Graph) -> relax.Expr | None:
    source = graph.source(call.args[0])
    if op_name(source) != RESHAPE or not is_tensor(source):
        return None
    return relax.op.reshape(with_tensors(call, source.args[0]), shape(call))


@rewrites("relax.quantize", "relax.dequantize")
def behind_quantization(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """Where one scale and one zero point hold for the whole tensor."""
    source = graph.source(call.args[0])
    if op_name(source) != RESHAPE or not is_tensor(source) or shape(call.args[1]) or shape(call.args[2]):
        return None
    scale, zero = list(call.args)[1:]
    if op_name(call) == "relax.quantize":
        return relax.op.reshape(relax.op.quantize(source.args[0], scale, zero, -1, str(call.attrs.out_dtype)), shape(call))
    return relax.op.reshape(relax.op.dequantize(source.args[0], scale, zero, -1, str(call.attrs.out_dtype)), shape(call))


@rewrites(*BINARY)
def behind_binary(call: relax.Call, graph: Graph) -> relax.Expr | None:
    operands = tensors(call)
    for index, operand in enumerate(operands):
        source, other = graph.source(operand), operands[1 - index]
        if op_name(source) != RESHAPE or not is_tensor(call) or shape(call) != shape(source):
            continue
        inner = source.args[0]
        moved = same_view(other, inner, operand, graph)
        if moved is not None:
            pair = (inner, moved) if index == 0 else (moved, inner)
            return relax.op.reshape(with_tensors(call, *pair), shape(call))
    return None


def same_view(other: relax.Expr, inner: relax.Expr, operand: relax.Expr, graph: Graph) -> relax.Expr | None:
    """The other operand in the shape of `inner`; None where that would only move the reshape about."""
    value, source = array(other), graph.source(other)
    if value is not None:
        reshaped = reshape_constant(value, shape(operand), shape(inner))
        return None if reshaped is None else constant(reshaped)
    if is_tensor(other) and shape(other) == ():
        return other
    if op_name(source) == RESHAPE and shape(source.args[0]) == shape(inner):
        return source.args[0]
    if not is_tensor(other) or shape(other) != shape(operand) or from_layer(other, graph):
        return None
    return relax.op.reshape(other, shape(inner)) if graph.once(operand) and from_layer(inner, graph) else None


@rewrites(*NORMALISATIONS)
def behind_normalisation(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """Only over the last axis, and where the reshape keeps that axis."""
    source = graph.source(call.args[0])
    if op_name(source) != RESHAPE or not is_tensor(source):
        return None
    inner, outer = shape(source.args[0]), shape(source)
    single = "softmax" in op_name(call)
    axes = [int(call.attrs.axis)] if single else [int(axis) for axis in call.attrs.axes]
    if [axis % len(outer) for axis in axes] != [len(outer) - 1] or not inner or inner[-1] != outer[-1]:
        return None
    if single:
        make = relax.op.nn.softmax if op_name(call) == "relax.nn.softmax" else relax.op.nn.log_softmax
        return relax.op.reshape(make(source.args[0], axis=-1), outer)
    if axes != [-1]:
        return None
    return relax.op.reshape(with_tensors(call, source.args[0]), outer)


sink_reshapes = rewrite_pass(
    "sink_reshapes", [no_change, one_reshape, behind_unary, behind_quantization, behind_binary, behind_normalisation]
)
