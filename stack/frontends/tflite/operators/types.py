"""Between real numbers and integers, and between element types.

QUANTIZE     quantize(x), or quantize(dequantize(x)) from one scale to another
DEQUANTIZE   dequantize(x), or a conversion where float16 is stored
"""

from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused, dequantize


def cast(c: Conversion) -> relax.Expr:
    return relax.op.astype(c.stored(0), c.outputs[0].dtype)


def to_real(c: Conversion) -> relax.Expr:
    tensor = c.tensor(0)
    if tensor.dtype == "float16":
        return relax.op.astype(c.stored(0), "float32")
    if tensor.affine is None or tensor.dtype not in ("int8", "uint8", "int16", "int32"):
        raise Refused(f"its input {tensor.name!r} is {tensor.dtype} without a scale")
    return dequantize(c.stored(0), tensor.affine, tensor.dtype)


REAL: dict[str, Converter] = {"QUANTIZE": lambda c: c.real(0)}
STORED: dict[str, Converter] = {"CAST": cast, "DEQUANTIZE": to_real}
