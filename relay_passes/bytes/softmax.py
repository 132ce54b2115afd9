"""Softmax along the last axis of bytes, in the arithmetic of ONNX Runtime, to the last bit.

    e = table[x + 255 - max(x)];   y = (e * factor) / sum(e)            factor = the whole part of 1 / the scale of the result

Differences of bytes take 256 values, so the exponentials are a table of float32, made in float64. It is multiplied by a power of e that
keeps every sum in range. The sum adds from the first element to the last: its rounding is part of the result, and one byte that is
rounded otherwise can be several steps at the end of a network.
"""

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.island import Operand
from relay_passes.integers.programs import OUT_EWISE_FUSABLE, Programs, placeholder
from relay_passes.rewrite import constant

NAME = "softmax_of_bytes"
RESERVE = 5  # powers of e between the largest sum and the largest float32


def exponentials(scale: np.float32, length: int) -> np.ndarray:
    """float32 [256], of (index - 255) * scale."""
    largest = np.float32(np.finfo(np.float32).max) / np.float32(length)
    shift = max(0.0, float(np.log(largest)) - RESERVE) / float(scale)
    table: np.ndarray = np.exp((np.arange(256) - 255.0 + shift) * float(scale)).astype(np.float32)
    return table


def softmax(x: Operand, factor: float, programs: Programs) -> relax.Expr:
    """float32: `factor` times the softmax of what `x` stands for."""
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
    values = [exponentials(np.float32(x.one_scale), shape[-1]), np.asarray(factor, np.float32)]
    arguments = [x.value, *(constant(value) for value in values)]
    return programs.call("softmax", [data, table, whole, result], arguments, pattern=OUT_EWISE_FUSABLE)
