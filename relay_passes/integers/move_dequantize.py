"""Operators that only move values or choose among them work on integers as on what these stand for.

    transpose(dequantize(x))         ->  dequantize(transpose(x))
    concat(dequantize(x), dequantize(y)), both of one scale and zero point   ->  dequantize(concat(x, y))
    quantize(reshape(x))             ->  reshape(quantize(x))

A quantize that follows then meets its dequantize, and both go.
"""

from collections.abc import Sequence

from tvm import relax

from relay_passes.integers.fixed_point import quantize_value
from relay_passes.integers.island import Operand, operand
from relay_passes.rewrite import Graph, Rule, array, constant, dtype, op_name, rewrites, shape

MOVES = (
    "relax.broadcast_to", "relax.concat", "relax.expand_dims", "relax.flatten", "relax.flip", "relax.max", "relax.maximum", "relax.min",
    "relax.minimum", "relax.nn.max_pool2d", "relax.nn.pad", "relax.permute_dims", "relax.repeat", "relax.reshape", "relax.split",
    "relax.squeeze", "relax.stack", "relax.strided_slice", "relax.take", "relax.tile",
)  # fmt: skip
VARIADIC = frozenset({"relax.concat", "relax.stack"})
RESHAPES = frozenset({"relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten"})
PAIRS = frozenset({"relax.maximum", "relax.minimum"})


def again(integers: relax.Expr, like: Operand) -> relax.Expr:
    """A dequantize of other integers of the same meaning."""
    return relax.op.dequantize(integers, constant(like.scale), constant(like.zero.astype(zero_dtype(like))), axis=-1, out_dtype="float32")


def zero_dtype(like: Operand) -> str:
    return like.dtype if like.dtype in ("int8", "uint8") else "int32"


def operands(exprs: Sequence[relax.Expr], graph: Graph) -> list[Operand] | None:
    """All of them, where they are integers of one meaning."""
    found = [operand(expr, graph) for expr in exprs]
    known = [item for item in found if item is not None]
    if len(known) < len(found) or not known or not known[0].uniform or any(not item.same(known[0]) for item in known):
        return None
    return known


@rewrites(*MOVES)
def move(call: relax.Call, graph: Graph) -> relax.Expr | None:
    name = op_name(call)
    if name == "relax.split":
        return None  # a tuple: see `take_part`
    arguments = list(call.args)
    if name in VARIADIC:
        parts = graph.source(arguments[0])
        known = operands(parts.fields, graph) if isinstance(parts, relax.Tuple) else None
        first: list[relax.Expr] = [relax.Tuple([item.value for item in known])] if known else []
    else:
        known = operands(arguments[: 2 if name in PAIRS else 1], graph)
        first = [item.value for item in known] if known else []
    if not known or all(item.array is not None for item in known):
        return None  # a constant stays with its dequantize: islands follow it there
    rest = arguments[len(first) :]
    attrs = call.attrs
    if name == "relax.nn.pad":
        if str(attrs.pad_mode) != "constant":
            return again(relax.Call(call.op, [*first, *rest], attrs), known[0])
        zero = quantize_value(float(attrs.pad_value), known[0].one_scale, known[0].one_zero)
        return again(relax.op.nn.pad(first[0], [int(item) for item in attrs.pad_width], str(attrs.pad_mode), zero), known[0])
    return again(relax.Call(call.op, [*first, *rest], attrs), known[0])


@rewrites("relax.quantize")
def quantize_first(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """So that the quantize meets the operator whose result was reshaped."""
    source = graph.source(call.args[0])
    scale, zero = array(call.args[1]), array(call.args[2])
    if op_name(source) not in RESHAPES or scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    integers = relax.Call(call.op, [source.args[0], *list(call.args)[1:]], call.attrs)
    return relax.op.reshape(integers, shape(call))


@rewrites("TupleGetItem")
def take_part(part: relax.TupleGetItem, graph: Graph) -> relax.Expr | None:
    """One part of a split."""
    call = graph.source(part.tuple_value)
    known = operands(call.args[:1], graph) if op_name(call) == "relax.split" else None
    if not known:
        return None
    return again(relax.TupleGetItem(relax.Call(call.op, [known[0].value], call.attrs), part.index), known[0])


@rewrites("relax.reshape")
def join_reshapes(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """A reshape of a reshape, and one that changes nothing: dense layers leave these on integers."""
    if dtype(call).startswith("float"):
        return None
    before = graph.source(call.args[0])
    if op_name(before) == "relax.reshape":
        return relax.op.reshape(before.args[0], call.args[1])
    return call.args[0] if list(call.args[0].ty.shape) == list(call.ty.shape) else None


RULES: list[Rule] = [move, take_part, quantize_first, join_reshapes]
