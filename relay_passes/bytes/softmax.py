"""Softmax of bytes along one axis, in the arithmetic of ONNX Runtime, to the last bit.

    e = table[x + 255 - max(x)];   y = (e * factor) / sum(e)            factor = the whole part of 1 / the scale of the result

Differences of bytes take 256 values, so the exponentials are a table of float32, made in float64. It is multiplied by a power of e that
keeps every sum in range. The sum adds from the first element to the last: its rounding is part of the result, and one byte that is
rounded otherwise can be several steps at the end of a network.

Only where a row is shorter than 1/148 of the factor, as one of a single element is, does ONNX Runtime's product leave the range of float32
(it then stores what the conversion of an infinity happens to give, 0). There the power of e is smaller, and the result is the softmax.
"""

from dataclasses import replace

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.island import Operand
from relay_passes.integers.programs import OUT_EWISE_FUSABLE, Programs, placeholder
from relay_passes.rewrite import constant

NAME = "softmax_of_bytes"
RESERVE = 5  # powers of e between the largest sum and the largest float32
MARGIN = 1e-3  # of a power of e, for what rounding adds


def exponentials(scale: np.float32, length: int, factor: float) -> np.ndarray:
    """float32 [256], of (index - 255) * scale, so large that neither their sum nor one times `factor` is infinite."""
    most = np.finfo(np.float32).max
    power = min(float(np.log(most / np.float32(length))) - RESERVE, float(np.log(float(most) / max(factor, 1.0))) - MARGIN)
    shift = max(0.0, power) / float(scale)
    table: np.ndarray = np.exp((np.arange(256) - 255.0 + shift) * float(scale)).astype(np.float32)
    return table


def factor_of(unit: np.float32, length: int) -> float:
    """The whole part of 1 / unit, as ONNX Runtime has it, where its product is finite."""
    exact = float(np.float32(1) / unit)
    return float(np.floor(exact)) if exact < np.exp(RESERVE) * length else exact


def last_axis(rank: int, axis: int) -> list[int]:
    """The axes with `axis` and the last exchanged, which leads back as well."""
    axes = list(range(rank))
    axes[axis], axes[-1] = axes[-1], axes[axis]
    return axes


def softmax(x: Operand, unit: np.float32, programs: Programs, axis: int = -1) -> relax.Expr:
    """float32: the softmax of what `x` stands for, in units of the result."""
    rank = len(x.value.ty.shape)
    axis %= rank
    if axis < rank - 1:
        axes = last_axis(rank, axis)
        turned = programs.builder.normalize(relax.op.permute_dims(x.value, axes))
        return relax.op.permute_dims(softmax(replace(x, value=turned), unit, programs), axes)
    data = placeholder(x.value, "x")
    table, whole = te.placeholder((256,), "float32", name="table"), te.placeholder((), "float32", name="factor")
    shape = [int(extent) for extent in data.shape]
    rows = shape[:-1]
    along, again = te.reduce_axis((0, shape[-1]), "k"), te.reduce_axis((0, shape[-1]), "k")
    top = te.compute(rows, lambda *row: te.max(data[(*row, along)], axis=along), name="softmax_max")

    def exponential(*index: tirx.Var) -> tirx.Expr:
        return table[data[index].astype("int32") + (255 - top[index[:-1]].astype("int32"))]

    e = te.compute(shape, exponential, name="softmax_exp")
    total = te.compute(rows, lambda *row: te.sum(e[(*row, again)], axis=again), name="softmax_sum")
    result = te.compute(shape, lambda *index: e[index] * whole() / total[index[:-1]], name=NAME)
    factor = factor_of(unit, shape[-1])
    values = [exponentials(np.float32(x.one_scale), shape[-1], factor), np.asarray(factor, np.float32)]
    arguments = [x.value, *(constant(value) for value in values)]
    return programs.call("softmax", [data, table, whole, result], arguments, pattern=OUT_EWISE_FUSABLE)
