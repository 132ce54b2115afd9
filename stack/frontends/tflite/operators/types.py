"""Between real numbers and integers, and between element types.

QUANTIZE     quantize(x), or quantize(dequantize(x)) from one scale to another
DEQUANTIZE   dequantize(x), or a conversion where float16 is stored
"""

from tvm import relax

from stack.frontends.tflite.conversion import QUANTIZED, Conversion, Converter, Refused, dequantize, parameters, quantize


def cast(c: Conversion) -> relax.Expr:
    return relax.op.astype(c.stored(0), c.outputs[0].dtype)


def to_real(c: Conversion) -> relax.Expr:
    tensor = c.tensor(0)
    if tensor.dtype == "float16":
        return relax.op.astype(c.stored(0), "float32")
    if tensor.affine is None or tensor.dtype not in ("int8", "uint8", "int16", "int32"):
        raise Refused(f"its input {tensor.name!r} is {tensor.dtype} without a scale")
    return dequantize(c.stored(0), tensor.affine, tensor.dtype)


def to_stored(c: Conversion) -> list[relax.Expr]:
    """`quantize` has no int32, so that one is written out."""
    tensor, out, stored = c.tensor(0), c.outputs[0], c.stored(0)
    if out.affine is None or (tensor.affine is None and tensor.dtype != "float32"):
        raise Refused(f"its input {tensor.name!r} or its result has no scale")
    real = c.emit(dequantize(stored, tensor.affine, tensor.dtype)) if tensor.affine and tensor.dtype != "float32" else stored
    if out.dtype in QUANTIZED:
        return [quantize(real, out.affine, out.dtype)]
    if out.dtype != "int32":
        raise Refused(f"its result is {out.dtype}")
    scale, zero_point = parameters(out.affine, "float32")
    rounded = c.emit(relax.op.round(c.emit(relax.op.divide(real, scale))))
    return [relax.op.astype(c.emit(relax.op.add(rounded, zero_point)), "int32")]


STORED: dict[str, Converter] = {"CAST": cast, "DEQUANTIZE": to_real, "QUANTIZE": to_stored}
