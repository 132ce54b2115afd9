"""Reductions along axes, which are constants."""

from collections.abc import Callable

from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter


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


REAL: dict[str, Converter] = {
    "L2_NORMALIZATION": l2_normalization,
    "MEAN": reduction(relax.op.mean),
    "REDUCE_MAX": reduction(relax.op.max),
    "REDUCE_MIN": reduction(relax.op.min),
    "SUM": reduction(relax.op.sum),
}
STORED: dict[str, Converter] = {"ARG_MAX": arg(relax.op.argmax), "ARG_MIN": arg(relax.op.argmin)}
