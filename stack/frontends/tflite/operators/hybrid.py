"""Float activations with integer weights: TFLite quantises the activations of such a layer to int8 in each run.

    scale = (max(x, 0) - min(x, 0)) / 255          zero = round(-128 - min(x, 0) / scale)           asymmetric
    scale = max(abs(x)) / 127                      zero = 0                                         symmetric
    x is replaced by (clip(round(x / scale + zero)) - zero) * scale

Convolutions do so asymmetrically for each image, dense layers for each row, and symmetrically unless an option says otherwise. What
follows is the layer over real numbers, with weights that are dequantised; TFLite multiplies the same integers, so results differ by the
rounding of floats only.
"""

from collections.abc import Sequence

from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Refused


def is_hybrid(c: Conversion, data: int, weights: int) -> bool:
    return c.tensor(data).dtype == "float32" and c.affine(weights) is not None


def quantized_at_run_time(c: Conversion, data: relax.Expr, axes: Sequence[int], symmetric: bool = False) -> relax.Expr:
    """`data` rounded to what 8 bits hold, with a scale for each slice along the other axes than `axes`."""
    op, number = relax.op, c.const
    if symmetric:
        span = c.emit(op.max(c.emit(op.abs(data)), axes, keepdims=True))
        steps, least = 127.0, -127.0
    else:
        low = c.emit(op.minimum(c.emit(op.min(data, axes, keepdims=True)), number(0.0)))
        high = c.emit(op.maximum(c.emit(op.max(data, axes, keepdims=True)), number(0.0)))
        span = c.emit(op.subtract(high, low))
        steps, least = 255.0, -128.0
    blank = c.emit(op.equal(span, number(0.0)))
    scale = c.emit(op.where(blank, number(1.0), c.emit(op.divide(span, number(steps)))))
    scaled = c.emit(op.divide(data, scale))
    if symmetric:
        return c.emit(op.multiply(c.emit(op.clip(c.emit(op.round(scaled)), least, 127.0)), scale))
    zero = c.emit(op.clip(c.emit(op.round(c.emit(op.subtract(number(least), c.emit(op.divide(low, scale)))))), least, 127.0))
    rounded = c.emit(op.clip(c.emit(op.round(c.emit(op.add(scaled, zero)))), least, 127.0))
    return c.emit(op.multiply(c.emit(op.subtract(rounded, zero)), scale))


def images(c: Conversion, data: int = 0, weights: int = 1) -> relax.Expr:
    """The images that a convolution reads."""
    if not is_hybrid(c, data, weights):
        return c.real(data)
    affine = c.affine(weights)
    if affine is not None and affine.zero_point.any():
        raise Refused(f"its weights {c.tensor(weights).name!r} have a zero point and its activations are float32")
    return quantized_at_run_time(c, c.real(data), [1, 2, 3])


def rows(c: Conversion, data: relax.Expr) -> relax.Expr:
    """The rows that a dense layer reads, which are `data` where it is not hybrid."""
    if not is_hybrid(c, 0, 1):
        return data
    return quantized_at_run_time(c, data, [-1], symmetric=not c.option("asymmetric_quantize_inputs"))
