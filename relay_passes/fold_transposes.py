"""Cancel transposes against each other, and move the rest behind elementwise work, where they meet the next one.

    permute_dims(permute_dims(x, p), q)      ->   permute_dims(x, p after q), or x
    permute_dims that moves only unit axes   ->   reshape
    relu(permute_dims(x, p))                 ->   permute_dims(relu(x), p), and the same of a quantisation of whole tensors
    add(permute_dims(x, p), c)               ->   permute_dims(add(x, c transposed back), p)
    concat, sum of transposed tensors        ->   the same on the tensors as they were, then one transpose

Networks exported from channels-last frameworks wrap each convolution in such a pair.
"""

from collections.abc import Sequence

import numpy as np
from tvm import relax

from relay_passes.canonicalize_ops import no_change, one_reshape
from relay_passes.elementwise import BINARY, UNARY, tensors, with_tensors
from relay_passes.rewrite import Graph, array, constant, is_tensor, op_name, rewrite_pass, rewrites, shape

PERMUTE = "relax.permute_dims"
REDUCTIONS = ("relax.sum", "relax.mean", "relax.max", "relax.min", "relax.prod")


def order(call: relax.Call) -> list[int]:
    rank = len(shape(call))
    return [int(axis) % rank for axis in call.attrs.axes] if call.attrs.axes is not None else list(range(rank))[::-1]


def inverse(axes: Sequence[int]) -> list[int]:
    return [int(axis) for axis in np.argsort(axes)]


def real(axes: Sequence[int], extents: Sequence[int]) -> list[int]:
    """The axes of more than one element."""
    return [axis for axis in axes if extents[axis] != 1]


@rewrites(PERMUTE)
def twice(call: relax.Call, graph: Graph) -> relax.Expr | None:
    inner = graph.source(call.args[0])
    if op_name(inner) != PERMUTE:
        return None
    first = order(inner)
    return relax.op.permute_dims(inner.args[0], [first[axis] for axis in order(call)])


@rewrites(PERMUTE)
def twice_around_reshape(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """A reshape that only adds or drops unit axes does not keep two transposes apart."""
    middle = graph.source(call.args[0])
    inner = graph.source(middle.args[0]) if op_name(middle) == "relax.reshape" else middle
    if inner is middle or op_name(inner) != PERMUTE:
        return None
    before, between, data = shape(inner), shape(middle), shape(inner.args[0])
    old, new = real(range(len(before)), before), real(range(len(between)), between)
    if [before[axis] for axis in old] != [between[axis] for axis in new]:
        return None
    first = order(inner)
    came_from = {axis: first[source] for source, axis in zip(old, new, strict=True)}
    kept = [came_from[axis] for axis in real(order(call), between)]
    units = [axis for axis in range(len(data)) if data[axis] == 1]
    return relax.op.reshape(relax.op.permute_dims(inner.args[0], units + kept), shape(call))


@rewrites(PERMUTE)
def moves_nothing(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    data = call.args[0]
    if not is_tensor(data):
        return None
    kept = real(order(call), shape(data))
    if kept != sorted(kept):
        return None
    return data if shape(call) == shape(data) else relax.op.reshape(data, shape(call))


def undo(expr: relax.Expr, axes: Sequence[int], graph: Graph) -> relax.Expr | None:
    """`expr` in the order it has before a transpose by `axes`, where that costs nothing: a constant, or the same transpose."""
    value, source = array(expr), graph.source(expr)
    if value is not None:
        extents = (1,) * (len(axes) - value.ndim) + value.shape
        return constant(value.reshape(extents).transpose(inverse(axes))) if value.ndim else expr
    return source.args[0] if op_name(source) == PERMUTE and order(source) == list(axes) else None


@rewrites("relax.quantize", "relax.dequantize")
def behind_quantization(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """Where one scale and one zero point hold for the whole tensor."""
    source = graph.source(call.args[0])
    if op_name(source) != PERMUTE or shape(call.args[1]) or shape(call.args[2]):
        return None
    return relax.op.permute_dims(with_tensors(call, source.args[0]), order(source))


@rewrites(*UNARY, *BINARY)
def behind_elementwise(call: relax.Call, graph: Graph) -> relax.Expr | None:
    operands = tensors(call)
    transposed = [source for source in map(graph.source, operands) if op_name(source) == PERMUTE]
    if not transposed or not is_tensor(call):
        return None
    axes = order(transposed[0])
    if shape(call) != shape(transposed[0]):
        return None
    undone = [undo(operand, axes, graph) for operand in operands]
    if any(operand is None for operand in undone):
        return None
    return relax.op.permute_dims(with_tensors(call, *undone), axes)


@rewrites("relax.concat")
def behind_concat(call: relax.Call, graph: Graph) -> relax.Expr | None:
    parts = call.args[0]
    sources = [graph.source(part) for part in parts.fields] if isinstance(parts, relax.Tuple) else []
    if not sources or any(op_name(source) != PERMUTE for source in sources) or call.attrs.axis is None:
        return None
    axes = order(sources[0])
    if any(order(source) != axes for source in sources):
        return None
    joined = relax.op.concat([source.args[0] for source in sources], axes[int(call.attrs.axis) % len(axes)])
    return relax.op.permute_dims(joined, axes)


@rewrites(*REDUCTIONS)
def behind_reduction(call: relax.Call, graph: Graph) -> relax.Expr | None:
    source = graph.source(call.args[0])
    if op_name(source) != PERMUTE or call.attrs.axis is None:
        return None
    axes = order(source)
    reduced = {axes[int(axis) % len(axes)] for axis in call.attrs.axis}
    attrs = dict(axis=sorted(reduced), keepdims=bool(call.attrs.keepdims))
    result = getattr(relax.op, op_name(call).removeprefix("relax."))(source.args[0], **attrs)
    if call.attrs.keepdims:
        return relax.op.permute_dims(result, axes)
    left = [axis for axis in axes if axis not in reduced]
    return relax.op.permute_dims(result, [sorted(left).index(axis) for axis in left]) if left else result


fold_transposes = rewrite_pass(
    "fold_transposes",
    [
        twice,
        twice_around_reshape,
        moves_nothing,
        no_change,
        one_reshape,
        behind_elementwise,
        behind_quantization,
        behind_concat,
        behind_reduction,
    ],
)
