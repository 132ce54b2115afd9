"""Unsigned bytes as signed ones: 128 less, and so is their zero point. Programs then know one kind.

    dequantize(quantize(x, scale, zero, uint8), scale, zero)   ->   dequantize(quantize(x, scale, zero - 128, int8), scale, zero - 128)
    dequantize(x uint8)                                        ->   dequantize(int8(x ^ 128), scale, zero - 128)
    y = quantize(x, scale, zero, uint8)                        ->   y = uint8(quantize(x, scale, zero - 128, int8)) ^ 128
    reshape(uint8(x) ^ 128)                                    ->   uint8(reshape(x)) ^ 128

The second and third stay only where a network takes or returns unsigned bytes.
"""

import numpy as np
from tvm import relax

from relay_passes.rewrite import Graph, Rule, array, constant, dtype, number, op_name, rewrites

HALF = 128


def less(zero: relax.Expr) -> relax.Expr | None:
    """The zero point, a constant uint8, as that of signed bytes."""
    value = array(zero)
    return None if value is None or value.dtype != np.uint8 else constant((value.astype("int16") - HALF).astype("int8"))


def flip(bytes_: relax.Expr) -> relax.Expr:
    return relax.op.bitwise_xor(bytes_, relax.const(HALF, "uint8"))


def signed_source(expr: relax.Expr, graph: Graph) -> relax.Expr | None:
    """x of uint8(x) ^ 128."""
    flipped = graph.source(expr)
    if op_name(flipped) != "relax.bitwise_xor" or number(flipped.args[1]) != HALF:
        return None
    cast = graph.source(flipped.args[0])
    return cast.args[0] if op_name(cast) == "relax.astype" and dtype(cast.args[0]) == "int8" else None


@rewrites("relax.dequantize")
def read_signed(call: relax.Call, graph: Graph) -> relax.Expr | None:
    data, scale, zero = call.args
    shifted = less(zero) if dtype(data) == "uint8" else None
    if shifted is None:
        return None
    value, signed = array(data), signed_source(data, graph)
    if value is not None:
        signed = constant((value.astype("int16") - HALF).astype("int8"))
    elif signed is None:
        signed = relax.op.astype(flip(data), "int8")
    return relax.op.dequantize(signed, scale, shifted, int(call.attrs.axis), "float32")


@rewrites("relax.quantize")
def write_signed(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    data, scale, zero = call.args
    shifted = less(zero) if str(call.attrs.out_dtype) == "uint8" else None
    if shifted is None:
        return None
    return flip(relax.op.astype(relax.op.quantize(data, scale, shifted, int(call.attrs.axis), "int8"), "uint8"))


@rewrites("relax.flatten", "relax.nn.max_pool2d", "relax.permute_dims", "relax.reshape", "relax.squeeze", "relax.strided_slice")
def move_signed(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """Operators that move values, or take the largest, do so on signed bytes as well."""
    signed = signed_source(call.args[0], graph) if dtype(call) == "uint8" else None
    if signed is None:
        return None
    return flip(relax.op.astype(relax.Call(call.op, [signed, *list(call.args)[1:]], call.attrs), "uint8"))


RULES: list[Rule] = [read_signed, write_signed, move_signed]
