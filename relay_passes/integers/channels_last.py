"""Quantised images with their channels last, before islands are matched: microcontrollers' programs know no other order.

    conv2d(dequantize(x), NCHW)          ->   transpose(conv2d(transpose(dequantize(x)), NHWC))
    quantize(transpose(x))               ->   transpose(quantize(x))

The transposes move towards the end of the network, through whatever works element by element, and cancel where they meet the next one.
"""

from collections.abc import Sequence

from tvm import relax

from relay_passes.elementwise import BINARY, UNARY
from relay_passes.fold_transposes import (
    PERMUTE,
    behind_concat,
    behind_reduction,
    inverse,
    moves_nothing,
    order,
    twice,
    twice_around_reshape,
)
from relay_passes.integers.island import operand
from relay_passes.rewrite import Graph, Rule, array, dtype, op_name, rewrites, shape

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
POOLS = ("relax.nn.avg_pool2d", "relax.nn.max_pool2d")


def quantized(expr: relax.Expr, graph: Graph) -> bool:
    """Whether `expr` is a dequantize, or a transpose of one, or integers themselves."""
    if dtype(expr) in ("int8", "uint8", "int16"):
        return True
    source = graph.source(expr)
    while op_name(source) == PERMUTE:
        source = graph.source(source.args[0])
    return op_name(source) == "relax.dequantize"


def pair(values: Sequence[int]) -> list[int]:
    return [int(value) for value in values]


@rewrites("relax.nn.conv2d")
def convolution(call: relax.Call, graph: Graph) -> relax.Expr | None:
    attrs = call.attrs
    if str(attrs.data_layout) != "NCHW" or str(attrs.out_layout) != "NCHW" or not quantized(call.args[0], graph):
        return None
    image = relax.op.permute_dims(call.args[0], TO_LAST)
    result = relax.op.nn.conv2d(
        image,
        call.args[1],
        strides=pair(attrs.strides),
        padding=pair(attrs.padding),
        dilation=pair(attrs.dilation),
        groups=int(attrs.groups),
        data_layout="NHWC",
        kernel_layout=str(attrs.kernel_layout),
    )
    return relax.op.permute_dims(result, TO_FIRST)


@rewrites("relax.nn.conv2d_transpose")
def transposed_convolution(call: relax.Call, graph: Graph) -> relax.Expr | None:
    attrs = call.attrs
    if str(attrs.data_layout) != "NCHW" or str(attrs.out_layout) != "NCHW" or not quantized(call.args[0], graph):
        return None
    result = relax.op.nn.conv2d_transpose(
        relax.op.permute_dims(call.args[0], TO_LAST),
        call.args[1],
        strides=pair(attrs.strides),
        padding=pair(attrs.padding),
        output_padding=pair(attrs.output_padding),
        dilation=pair(attrs.dilation),
        groups=int(attrs.groups),
        data_layout="NHWC",
        kernel_layout=str(attrs.kernel_layout),
    )
    return relax.op.permute_dims(result, TO_FIRST)


@rewrites(*POOLS)
def pool(call: relax.Call, graph: Graph) -> relax.Expr | None:
    attrs = call.attrs
    if str(attrs.layout) != "NCHW" or str(attrs.out_layout) != "NCHW" or not quantized(call.args[0], graph):
        return None
    operator = getattr(relax.op.nn, op_name(call).removeprefix("relax.nn."))
    result = operator(
        relax.op.permute_dims(call.args[0], TO_LAST),
        pool_size=pair(attrs.pool_size),
        strides=pair(attrs.strides),
        padding=pair(attrs.padding),
        dilation=pair(attrs.dilation),
        ceil_mode=bool(attrs.ceil_mode),
        count_include_pad=bool(attrs.count_include_pad),
        layout="NHWC",
    )
    return relax.op.permute_dims(result, TO_FIRST)


@rewrites("relax.quantize", "relax.dequantize")
def behind_scale(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """One scale for the whole tensor does not see its order."""
    source = graph.source(call.args[0])
    scale, zero = array(call.args[1]), array(call.args[2])
    if op_name(source) != PERMUTE or scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    return relax.op.permute_dims(relax.Call(call.op, [source.args[0], *list(call.args)[1:]], call.attrs), order(source))


def undo(expr: relax.Expr, axes: Sequence[int], graph: Graph) -> relax.Expr | None:
    """`expr` in the order it has before a transpose by `axes`: a constant, quantised or not, a number, or the same transpose."""
    source = graph.source(expr)
    if op_name(source) == PERMUTE and order(source) == list(axes):
        return source.args[0]
    if isinstance(expr.ty, relax.TensorType) and not shape(expr):
        return expr
    known = operand(expr, graph)
    if array(expr) is None and (known is None or known.array is None):
        return None
    extents = (1,) * (len(axes) - len(shape(expr))) + shape(expr)
    whole = expr if extents == shape(expr) else relax.op.reshape(expr, extents)
    return relax.op.permute_dims(whole, inverse(axes))


@rewrites(*UNARY, *BINARY)
def behind_elementwise(call: relax.Call, graph: Graph) -> relax.Expr | None:
    count = 2 if op_name(call) in BINARY else 1
    operands = list(call.args)[:count]
    sources = [source for source in map(graph.source, operands) if op_name(source) == PERMUTE and shape(source) == shape(call)]
    if not sources:
        return None
    axes = order(sources[0])
    undone = [undo(item, axes, graph) for item in operands]
    if any(item is None for item in undone):
        return None
    return relax.op.permute_dims(relax.Call(call.op, [*undone, *list(call.args)[count:]], call.attrs), axes)


RULES: list[Rule] = [
    convolution, transposed_convolution, pool, twice, twice_around_reshape, moves_nothing, behind_scale, behind_elementwise, behind_concat,
    behind_reduction,
]  # fmt: skip
