"""quantize and dequantize of whole tensors as programs of a few vector instructions, which fuse with what is around them.

    quantize(x, scale, zero)     ->   uint8(round(clip(x / scale, -zero, 255 - zero)) + zero), ties to even; a known scale divides nothing
    dequantize(x, scale, zero)   ->   float32(int32(x) - zero) * scale

Rounding is an addition: the sum of a small number and 1.5 * 2^23 has no bits left for a fraction, and its low bits are the whole number.
"""

from collections.abc import Sequence

import numpy as np
from tvm import relax, te, tirx
from tvm.relax.transform.legalize_ops.qdq import _dequantize, _quantize

from relay_passes.bytes.quotients import factors
from relay_passes.rewrite import array, dtype, number, shape

MAGIC = np.float32(1.5 * 2**23)
BYTES = ("uint8", "int8")
BROADCAST = 1  # TVM's pattern kind that fuses with what reads the result, and not with a layer ahead, which then stores bytes


def quotient(x: tirx.Expr, scale: Sequence[te.Tensor]) -> tirx.Expr:
    """x over nothing, over a scale, or times the two parts of its inverse."""
    if len(scale) == 2:
        high, low = scale[0](), scale[1]()
        return tirx.call_llvm_pure_intrin("float32", "llvm.fma", x, high, x * low)
    return x / scale[0]() if scale else x


def quantized(x: te.Tensor, scale: Sequence[te.Tensor], zero: te.Tensor | None, kind: str) -> te.Tensor:
    info = np.iinfo(kind)

    def element(*index: tirx.Var) -> tirx.Expr:
        value = quotient(x[index], scale)
        low, high = tirx.const(info.min, "float32"), tirx.const(info.max, "float32")
        if zero is not None:
            low, high = low - zero().astype("float32"), high - zero().astype("float32")
        held = te.min(te.max(value, low), high)
        bits = tirx.reinterpret("int32", held + tirx.const(MAGIC, "float32"))
        return (bits if zero is None else bits + zero().astype("int32")).astype(kind)

    return te.compute(x.shape, element, name="quantize")


def dequantized(x: te.Tensor, scale: te.Tensor | None, zero: te.Tensor | None) -> te.Tensor:
    def element(*index: tirx.Var) -> tirx.Expr:
        whole = x[index].astype("int32")
        value = (whole if zero is None else whole - zero().astype("int32")).astype("float32")
        return value if scale is None else value * scale()

    return te.compute(x.shape, element, name="dequantize")


def parameters(call: relax.Call) -> tuple[list[relax.Expr], bool, bool] | None:
    """The scale and the zero point of a whole tensor, without those that change nothing, and which of them there are."""
    scale, zero = (array(argument) for argument in list(call.args)[1:])
    if scale is None or zero is None:
        at_run_time = all(shape(argument) == () for argument in list(call.args)[1:]) and dtype(call.args[1]) == "float32"
        return (list(call.args)[1:], True, True) if at_run_time else None
    if scale.size != 1 or zero.size != 1 or scale.dtype != np.float32:
        return None
    scaled, moved = number(call.args[1]) != 1.0, number(call.args[2]) != 0.0
    found = [relax.const(scale.reshape(()), "float32")] if scaled else []
    return [*found, *([relax.const(zero.reshape(()).astype("int32"), "int32")] if moved else [])], scaled, moved


def lower_quantize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    found, kind = parameters(call), str(call.attrs.out_dtype)
    if found is None or kind not in BYTES or dtype(call.args[0]) != "float32":
        return _quantize(builder, call)
    operands, scaled, moved = found
    scale = array(operands[0]) if scaled else None
    parts = factors(np.float32(scale)) if scale is not None else None
    if parts is not None:
        operands = [*(relax.const(part, "float32") for part in parts), *operands[1:]]

    def program(x: te.Tensor, *rest: te.Tensor) -> te.Tensor:
        return quantized(x, rest[: len(rest) - moved], rest[-1] if moved else None, kind)

    return builder.call_te(program, call.args[0], *operands, primfunc_name_hint="quantize")


def lower_dequantize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    found = parameters(call)
    if found is None or dtype(call.args[0]) not in (*BYTES, "int32", "int16") or dtype(call) != "float32":
        return _dequantize(builder, call)
    operands, scaled, moved = found

    def program(x: te.Tensor, *rest: te.Tensor) -> te.Tensor:
        return dequantized(x, rest[0] if scaled else None, rest[-1] if moved else None)

    made = builder.call_te(program, call.args[0], *operands, primfunc_name_hint="dequantize")
    builder.update_func(made.args[0], builder.get()[made.args[0]].with_attr("op_pattern", BROADCAST))
    return made
