"""Quantised images with their channels last, where what reads them will be computed over bytes: dot products run along channels.

    conv2d(dequantize(x), NCHW)          ->   transpose(conv2d(transpose(dequantize(x)), NHWC))

The transposes then move as those for microcontrollers do.
"""

from tvm import relax

from relay_passes.bytes.layers import filters_first
from relay_passes.integers import channels_last
from relay_passes.integers.channels_last import POOLS, quantized
from relay_passes.integers.island import operand
from relay_passes.rewrite import Graph, Rule, dtype, op_name, rewrites


def of_bytes(expr: relax.Expr, graph: Graph) -> bool:
    """Whether `expr` is unsigned bytes, or stands for them."""
    if dtype(expr) == "uint8":
        return True
    source = graph.source(expr)
    while op_name(source) == "relax.permute_dims":
        source = graph.source(source.args[0])
    return op_name(source) == "relax.dequantize" and dtype(source.args[0]) == "uint8"


@rewrites("relax.nn.conv2d")
def convolution(call: relax.Call, graph: Graph) -> relax.Expr | None:
    w = operand(call.args[1], graph)
    if w is None or not of_bytes(call.args[0], graph) or filters_first(call, w) is None:
        return None
    return channels_last.convolution(call, graph)


@rewrites(*POOLS)
def pool(call: relax.Call, graph: Graph) -> relax.Expr | None:
    return channels_last.pool(call, graph) if of_bytes(call.args[0], graph) and quantized(call.args[0], graph) else None


MOVES = [rule for rule in channels_last.RULES if rule not in (channels_last.convolution, channels_last.pool)]
RULES: list[Rule] = [
    convolution, pool, *(rule for rule in MOVES if rule is not channels_last.transposed_convolution)
]  # fmt: skip
