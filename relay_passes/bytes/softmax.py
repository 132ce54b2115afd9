"""Softmax along the last axis of bytes, as exact as its argument is: differences of bytes are whole numbers.

    d = float32(x - max(x));   e = exp(d * high) * (1 + d * low);   y = e * (factor / sum(e))        scale of x = high + low

A difference times the high half of the scale has no rounding error, which the exponential function would make larger by the argument. So
results round to the bytes that ONNX Runtime finds in its table of exponentials, but for one in many millions. Its factor from real numbers
to bytes is cut to a whole number.
"""

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.island import Operand
from relay_passes.integers.programs import OUT_EWISE_FUSABLE, Programs, placeholder
from relay_passes.rewrite import constant

HIGH_BITS = np.uint32(0xFFFFFF00)  # of a float32: the last eight make room for the product with a byte


def halves(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """`scale` as a number of few bits and the rest."""
    whole = np.asarray(scale, np.float32)
    high = (whole.view(np.uint32) & HIGH_BITS).view(np.float32)
    return high, (whole - high).astype(np.float32)


def softmax(x: Operand, factor: float, programs: Programs) -> relax.Expr:
    """float32: `factor` times the softmax of what `x` stands for."""
    data = placeholder(x.value, "x")
    scalars = [te.placeholder((), "float32", name=name) for name in ("high", "low", "factor")]
    high, low, whole = scalars
    shape = [int(extent) for extent in data.shape]
    rows = shape[:-1] or [1]
    along, again = te.reduce_axis((0, shape[-1]), "k"), te.reduce_axis((0, shape[-1]), "k")
    top = te.compute(rows, lambda *row: te.max(data[(*row, along)], axis=along), name="softmax_max")

    def exponential(*index: tirx.Var) -> tirx.Expr:
        difference = (data[index].astype("int32") - top[index[:-1]].astype("int32")).astype("float32")
        return te.exp(difference * high()) * (difference * low() + tirx.const(1.0, "float32"))

    e = te.compute(shape, exponential, name="softmax_exp")
    total = te.compute(rows, lambda *row: te.sum(e[(*row, again)], axis=again), name="softmax_sum")
    inverse = te.compute(rows, lambda *row: whole() / total[row], name="softmax_inverse")
    result = te.compute(shape, lambda *index: e[index] * inverse[index[:-1]], name="softmax")
    values = [*halves(x.one_scale), np.asarray(factor, np.float32)]
    arguments = [x.value, *(constant(value) for value in values)]
    return programs.call("softmax", [data, *scalars, result], arguments, pattern=OUT_EWISE_FUSABLE)
