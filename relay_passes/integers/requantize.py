"""From one quantisation to another, from floats to integers and back.

quantize(dequantize(x))          ->  clip(requantize(x - x_zero) + y_zero), or x itself where both are the same
quantize(x float)                ->  clip(round(x / scale) + zero), ties away from zero
dequantize(x)                    ->  (x - zero) * scale
"""

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.fixed_point import clamp, one_multiplier
from relay_passes.integers.intrinsics import requantize
from relay_passes.integers.island import Island, Operand, Quantization
from relay_passes.integers.programs import Programs, placeholder

SMALL = frozenset({"int8", "uint8", "int16"})


def rescale(island: Island) -> relax.Expr | None:
    """quantize(activation(dequantize(x)))."""
    (x,) = island.inputs
    info = np.iinfo(island.output.dtype)
    if not island.uniform or not {x.dtype, island.output.dtype} <= SMALL | {"int32"}:
        return None
    unlimited = (island.low, island.high) == (info.min, info.max)
    if x.same(island.output):
        return x.value if unlimited else clip(island)
    factor = one_multiplier(x.one_scale / island.output.one_scale)
    data, all_of_int32 = placeholder(x.value, "x"), unlimited and info.bits == 32

    def result(*index: tirx.Var) -> tirx.Expr:
        scaled = requantize(data[index].astype("int32") - x.one_zero, *factor) + island.output.one_zero
        return scaled if all_of_int32 else clamp(scaled, island.low, island.high).astype(island.output.dtype)

    return island.programs.call("requantize", [data, te.compute(island.shape, result, name="requantize")], [x.value])


def clip(island: Island) -> relax.Expr:
    """Only limits, on integers that keep their meaning."""
    (x,) = island.inputs
    data = placeholder(x.value, "x")
    result = te.compute(island.shape, lambda *index: clamp(data[index], island.low, island.high), name="clip")
    return island.programs.call("clip", [data, result], [x.value])


def to_integers(x: relax.Expr, output: Quantization, programs: Programs) -> relax.Expr:
    data = placeholder(x, "x")
    info = np.iinfo(output.dtype)

    def result(*index: tirx.Var) -> tirx.Expr:
        whole = te.round(data[index] / tirx.const(output.one_scale, "float32"))
        return clamp(whole.astype("int32") + output.one_zero, int(info.min), int(info.max)).astype(output.dtype)

    return programs.call("quantize", [data, te.compute(data.shape, result, name="quantize")], [x])


def to_floats(x: Operand, programs: Programs) -> relax.Expr:
    data = placeholder(x.value, "x")
    scale = tirx.const(x.one_scale, "float32")

    def result(*index: tirx.Var) -> tirx.Expr:
        return (data[index].astype("int32") - x.one_zero).astype("float32") * scale

    return programs.call("dequantize", [data, te.compute(data.shape, result, name="dequantize")], [x.value])


LOWERINGS = {"relax.dequantize": rescale}
