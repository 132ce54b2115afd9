"""Signed bytes of activations as unsigned ones: 128 more, and so is their zero point. Dot products of bytes want one factor without a sign.

    dequantize(quantize(x, scale, zero, int8), scale, zero)   ->   dequantize(quantize(x, scale, zero + 128, uint8), scale, zero + 128)
    dequantize(x int8)                                        ->   dequantize(uint8(x) ^ 128, scale, zero + 128)
    y = quantize(x, scale, zero, int8)                        ->   y = int8(quantize(x, scale, zero + 128, uint8) ^ 128)
    reshape(int8(x ^ 128))                                    ->   int8(reshape(x) ^ 128)

The second and third stay only where a network takes or returns signed bytes. Weights, which are constants, keep their sign.
"""

import numpy as np
from tvm import relax

from relay_passes.rewrite import Graph, Rule, array, constant, dtype, number, op_name, rewrites

HALF = 128


def more(zero: relax.Expr) -> relax.Expr | None:
    """The zero point, a constant int8, as that of unsigned bytes."""
    value = array(zero)
    return None if value is None or value.dtype != np.int8 else constant((value.astype("int16") + HALF).astype("uint8"))


def flip(unsigned: relax.Expr) -> relax.Expr:
    return relax.op.bitwise_xor(unsigned, relax.const(HALF, "uint8"))


def unsigned_source(expr: relax.Expr, graph: Graph) -> relax.Expr | None:
    """x of int8(x ^ 128)."""
    cast = graph.source(expr)
    flipped = graph.source(cast.args[0]) if op_name(cast) == "relax.astype" and dtype(cast) == "int8" else cast
    if op_name(flipped) != "relax.bitwise_xor" or number(flipped.args[1]) != HALF:
        return None
    return flipped.args[0] if dtype(flipped.args[0]) == "uint8" else None


@rewrites("relax.dequantize")
def read_unsigned(call: relax.Call, graph: Graph) -> relax.Expr | None:
    data, scale, zero = call.args
    shifted = more(zero) if dtype(data) == "int8" and array(data) is None else None
    if shifted is None:
        return None
    unsigned = unsigned_source(data, graph)
    if unsigned is None:
        unsigned = flip(relax.op.astype(data, "uint8"))
    return relax.op.dequantize(unsigned, scale, shifted, int(call.attrs.axis), "float32")


@rewrites("relax.quantize")
def write_unsigned(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    data, scale, zero = call.args
    shifted = more(zero) if str(call.attrs.out_dtype) == "int8" else None
    if shifted is None or array(data) is not None:
        return None
    return relax.op.astype(flip(relax.op.quantize(data, scale, shifted, int(call.attrs.axis), "uint8")), "int8")


@rewrites(
    "relax.broadcast_to", "relax.expand_dims", "relax.flatten", "relax.nn.max_pool2d", "relax.permute_dims", "relax.reshape",
    "relax.squeeze", "relax.strided_slice",
)  # fmt: skip
def move_unsigned(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """Operators that move values, or take the largest, do so on unsigned bytes as well."""
    unsigned = unsigned_source(call.args[0], graph) if dtype(call) == "int8" else None
    if unsigned is None:
        return None
    return relax.op.astype(flip(relax.Call(call.op, [unsigned, *list(call.args)[1:]], call.attrs)), "int8")


RULES: list[Rule] = [read_unsigned, write_unsigned, move_unsigned]
