"""Attention as one operator, so that scores never leave the cache.

    matmul(softmax(matmul(q, k^T) * scale + mask), v)     ->     nn.attention(q, k, v, mask, scale), heads behind the rows

q, k and v are [batch, heads, rows, depth], or without heads. nn.attention has the heads behind the rows, as projections leave them; the
transposes that this takes meet those of the model, and cancel. The scale may be missing, or stand at q or k; a mask may be missing.
Fused by default where scores would leave the first-level cache, and where enough rows share what it costs to turn and copy a head's keys
and values: from there on, one nest took 0.82 to 1.03 of the time of three programs, the less the more keys.
"""

from collections.abc import Sequence
from math import prod

from tvm import relax
from tvm.ir import GenericConst
from tvm.ir.transform import Pass

from relay_passes.choices import Choices
from relay_passes.rewrite import Graph, dtype, is_tensor, number, op_name, rewrite_pass, rewrites, shape
from schedules.machine import Machine

KIND, FUSED, SEPARATE = "attention", "fused", "separate"
ENOUGH_ROWS = 32


def scaled(expr: relax.Expr, graph: Graph) -> tuple[relax.Expr, float]:
    """`expr` without the constant factor around it, and that."""
    call = graph.source(expr)
    if not graph.once(expr) or op_name(call) not in ("relax.multiply", "relax.divide"):
        return expr, 1.0
    for value, factor in ((call.args[0], call.args[1]), (call.args[1], call.args[0])):
        amount = number(factor)
        if amount and isinstance(factor, GenericConst) and shape(value) == shape(call):
            if op_name(call) == "relax.multiply":
                return value, amount
            return (value, 1 / amount) if value is call.args[0] or value.same_as(call.args[0]) else (expr, 1.0)
    return expr, 1.0


def masked(expr: relax.Expr, graph: Graph) -> tuple[relax.Expr, relax.Expr | None]:
    """`expr` without the mask that is added to it, and that."""
    call = graph.only(expr, "relax.add")
    if call is None:
        return expr, None
    for value, mask in ((call.args[0], call.args[1]), (call.args[1], call.args[0])):
        if shape(value) == shape(call) and op_name(graph.source(value)) in ("relax.matmul", "relax.multiply", "relax.divide"):
            return value, mask
    return expr, None


def with_heads(expr: relax.Expr, axes: Sequence[int]) -> relax.Expr:
    """[batch, rows, heads, depth] of a [batch, heads, ., .] that `axes` transposes, or of a [batch, ., .] with one head."""
    if len(shape(expr)) == 4:
        return relax.op.permute_dims(expr, list(axes))
    batch, *rest = shape(expr)
    if axes[1] == 3:
        expr, rest = relax.op.permute_dims(expr, [0, 2, 1]), rest[::-1]
    return relax.op.reshape(expr, (batch, rest[0], 1, rest[1]))


def fuse_attention(machine: Machine, choices: Choices) -> Pass:
    @rewrites("relax.matmul")
    def attention(call: relax.Call, graph: Graph) -> relax.Expr | None:
        softmax = graph.only(call.args[0], "relax.nn.softmax")
        v = call.args[1]
        if softmax is None or not all(is_tensor(operand) and dtype(operand) == "float32" for operand in call.args):
            return None
        full = shape(softmax)
        if len(full) not in (3, 4) or int(softmax.attrs.axis) not in (-1, len(full) - 1) or shape(v)[:-2] != full[:-2]:
            return None
        inner, mask = masked(softmax.args[0], graph)
        inner, scale = scaled(inner, graph)
        product = graph.only(inner, "relax.matmul")
        if product is None or any(shape(operand)[:-2] != full[:-2] for operand in product.args):
            return None
        q, k = product.args
        if mask is not None and (not is_tensor(mask) or dtype(mask) != "float32" or len(shape(mask)) > len(full)):
            return None
        options = (FUSED, SEPARATE) if full[-2] >= ENOUGH_ROWS and 4 * prod(full) > machine.l1_bytes else (SEPARATE, FUSED)
        if choices.choose(KIND, options, "x".join(map(str, full))) != FUSED:
            return None
        if mask is not None:
            around = [1] * (len(full) - len(shape(mask))) + list(shape(mask))
            mask = relax.op.reshape(mask, around if len(full) == 4 else (around[0], 1, *around[1:]))
        behind = with_heads(q, (0, 2, 1, 3)), with_heads(k, (0, 3, 1, 2)), with_heads(v, (0, 2, 1, 3))
        fused = relax.op.nn.attention(*behind, bias=mask, scale=scale)
        return relax.op.permute_dims(fused, [0, 2, 1, 3]) if len(full) == 4 else relax.op.reshape(fused, shape(call))

    return rewrite_pass("fuse_attention", [attention])
