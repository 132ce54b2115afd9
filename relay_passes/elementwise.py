"""Which operators work element by element, so that a change of shape or order may pass through them."""

from tvm import relax

from relay_passes.rewrite import op_name

UNARY = frozenset(
    {
        "relax.abs", "relax.astype", "relax.ceil", "relax.clip", "relax.cos", "relax.erf", "relax.exp", "relax.floor", "relax.isnan",
        "relax.log", "relax.logical_not", "relax.negative", "relax.nn.gelu", "relax.nn.gelu_tanh", "relax.nn.leakyrelu", "relax.nn.relu",
        "relax.nn.relu6", "relax.nn.silu", "relax.nn.softplus", "relax.round", "relax.rsqrt", "relax.sigmoid", "relax.sign", "relax.sin",
        "relax.sqrt", "relax.square", "relax.tanh",
    }
)  # fmt: skip
BINARY = frozenset(
    {
        "relax.add", "relax.subtract", "relax.multiply", "relax.divide", "relax.power", "relax.maximum", "relax.minimum", "relax.equal",
        "relax.not_equal", "relax.less", "relax.less_equal", "relax.greater", "relax.greater_equal", "relax.logical_and",
        "relax.logical_or",
    }
)  # fmt: skip


def with_tensors(call: relax.Call, *tensors: relax.Expr) -> relax.Expr:
    """The same operator with the same attributes on other tensors; what follows them (the limits of a clip) stays."""
    return relax.Call(call.op, [*tensors, *list(call.args)[len(tensors) :]], call.attrs)


def tensors(call: relax.Call) -> list[relax.Expr]:
    """The tensor operands of a unary or binary call."""
    return list(call.args)[: 2 if op_name(call) in BINARY else 1]
