"""Reductions along axes, which are constants."""

from collections.abc import Callable

import numpy as np
from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused

LONGEST = 1024  # of running sums, whose cost grows with the square


def reduction(operator: Callable[..., relax.Expr]) -> Converter:
    def convert(c: Conversion) -> relax.Expr:
        axes = sorted({c.axis(axis, len(c.shape(0))) for axis in c.numbers(1)})
        return operator(c.real(0), axes, keepdims=bool(c.option("keep_dims"))) if axes else c.real(0)

    return convert


def arg(operator: Callable[..., relax.Expr]) -> Converter:
    """The position of an extreme; a scale does not move it."""

    def convert(c: Conversion) -> relax.Expr:
        (axis,) = c.numbers(1)
        result = operator(c.stored(0), c.axis(axis, len(c.shape(0))), False)
        return relax.op.astype(result, c.outputs[0].dtype)

    return convert


def l2_normalization(c: Conversion) -> relax.Expr:
    """x / sqrt(sum(x^2)) over the last axis, where the root is at least 1e-6"""
    data = c.real(0)
    total = c.emit(relax.op.sum(c.emit(relax.op.multiply(data, data)), [-1], keepdims=True))
    norm = c.emit(relax.op.maximum(c.emit(relax.op.sqrt(total)), c.const(1e-6)))
    return relax.op.divide(data, norm)


def cumsum(c: Conversion) -> relax.Expr:
    """A product with ones on one side of the diagonal: each result is the sum of what stands before it, or behind it."""
    extents, (axis,) = c.shape(0), c.numbers(1)
    axis = c.axis(axis, len(extents))
    if extents[axis] > LONGEST:
        raise Refused(f"a running sum of {extents[axis]} elements is not compiled, only up to {LONGEST}")
    ones = np.triu(np.ones((extents[axis], extents[axis]), np.float32), int(c.option("exclusive")))
    order = [*(other for other in range(len(extents)) if other != axis), axis]
    rows = c.emit(relax.op.permute_dims(c.real(0), order))
    sums = c.emit(relax.op.matmul(rows, c.const(ones.T if c.option("reverse") else ones)))
    return relax.op.permute_dims(sums, [int(place) for place in np.argsort(order)])


REAL: dict[str, Converter] = {
    "CUMSUM": cumsum,
    "L2_NORMALIZATION": l2_normalization,
    "MEAN": reduction(relax.op.mean),
    "REDUCE_MAX": reduction(relax.op.max),
    "REDUCE_MIN": reduction(relax.op.min),
    "REDUCE_PROD": reduction(relax.op.prod),
    "SUM": reduction(relax.op.sum),
}
STORED: dict[str, Converter] = {"ARG_MAX": arg(relax.op.argmax), "ARG_MIN": arg(relax.op.argmin)}
