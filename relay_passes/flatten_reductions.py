"""Reduce neighbouring innermost axes as one, so that their elements fill whole vectors.

    max(x: [1, 172, 309], axes 1 and 2)     ->     max(reshape(x, [1, 53148]), axis 1)

A view costs nothing, and one long axis is rounded up to vectors once instead of once a row.
"""

from math import prod

from tvm import relax

from relay_passes.rewrite import Graph, is_tensor, op_name, rewrite_pass, rewrites, shape

OPERATORS = {
    "relax.sum": relax.op.sum,
    "relax.mean": relax.op.mean,
    "relax.max": relax.op.max,
    "relax.min": relax.op.min,
    "relax.prod": relax.op.prod,
}


@rewrites(*OPERATORS)
def one_axis(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    (data,) = call.args
    if not is_tensor(data) or not is_tensor(call):
        return None
    extents = shape(data)
    axes = range(len(extents)) if call.attrs.axis is None else sorted(int(axis) % len(extents) for axis in call.attrs.axis)
    first = len(extents) - len(axes)
    if list(axes) != list(range(first, len(extents))) or sum(extents[axis] != 1 for axis in axes) < 2:
        return None
    rows = extents[:first] or (1,)
    flat = relax.op.reshape(data, (*rows, prod(extents[first:])))
    return relax.op.reshape(OPERATORS[op_name(call)](flat, axis=[len(rows)]), shape(call))


flatten_reductions = rewrite_pass("flatten_reductions", [one_axis])
