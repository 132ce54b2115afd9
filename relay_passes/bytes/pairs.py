"""Sums and products of two quantised tensors, in the arithmetic of ONNX Runtime's QLinearAdd and QLinearMul, to the last bit.

    add:       round(a * (s / u) + (b * (t / u) + fixed))       fixed = zero - (s / u * zero of a + t / u * zero of b)
    multiply:  round((a - zero of a) * (b - zero of b) * (s * t / u) + zero)

The bytes are not moved by their zero points first, and the zero point of the result is added before rounding. Scales of one network are
often in whole ratios, so that many results lie between two bytes, and the last bit decides. Each product and sum is one fused operation.
Bytes that had a sign are 128 more here; the arithmetic is that of signed ones, whose smaller numbers are rounded elsewhere.
"""

from dataclasses import dataclass

import numpy as np
from tvm import relax

from relay_passes.bytes.fused import fused
from relay_passes.integers.island import Operand, Quantization
from relay_passes.rewrite import constant

Array = np.ndarray
ADD, MULTIPLY = "relax.add", "relax.multiply"


@dataclass(frozen=True)
class Pair:
    """`name` of two uniform operands; the result is in bytes before they are rounded."""

    name: str
    a: Operand
    b: Operand
    output: Quantization
    half: int = 0  # how much more the bytes are than those of the network

    def moved(self, x: Quantization) -> int:
        """Constants keep their sign."""
        return self.half if x.dtype == "uint8" else 0

    @property
    def ratios(self) -> tuple[np.float32, np.float32]:
        unit = np.float32(self.output.one_scale)
        return np.float32(self.a.one_scale) / unit, np.float32(self.b.one_scale) / unit

    @property
    def factor(self) -> np.float32:
        return np.float32(self.a.one_scale) * np.float32(self.b.one_scale) / np.float32(self.output.one_scale)

    @property
    def fixed(self) -> np.float32:
        first, second = self.ratios
        moved = fused(
            np.asarray(first), np.float32(self.a.one_zero - self.moved(self.a)), second * np.float32(self.b.one_zero - self.moved(self.b))
        )
        return np.float32(np.float32(self.zero) - moved)

    @property
    def zero(self) -> int:
        return self.output.one_zero - self.half

    @property
    def swapped(self) -> bool:
        """Whether `a` is one number, which is then added to `fixed`."""
        return self.a.array is not None and self.a.array.size == 1

    def values(self, a: Array, b: Array) -> Array:
        """Bytes, not limited to their range yet, of known bytes."""
        if self.name == MULTIPLY:
            products = (a.astype("int32") - self.a.one_zero) * (b.astype("int32") - self.b.one_zero)
            return np.rint(fused(products, self.factor, np.float32(self.zero))) + self.half
        a, b = a.astype("int32") - self.moved(self.a), b.astype("int32") - self.moved(self.b)
        first, second = self.ratios
        if self.swapped:
            return np.rint(fused(b, second, fused(a, first, self.fixed))) + self.half
        return np.rint(fused(a, first, fused(b, second, self.fixed))) + self.half

    def operators(self) -> relax.Expr:
        """Of those computed at run time, less `half`, not rounded. Code generation fuses a product with the sum behind it."""
        if self.name == MULTIPLY:
            products = relax.op.multiply(real(self.a, self.a.one_zero), real(self.b, self.b.one_zero))
            return relax.op.add(relax.op.multiply(products, number(self.factor)), number(np.float32(self.zero)))
        first, second = (
            relax.op.multiply(real(x, self.moved(x)), number(ratio)) for x, ratio in zip((self.a, self.b), self.ratios, strict=True)
        )
        if self.swapped:
            first, second = second, first
        return relax.op.add(first, relax.op.add(second, number(self.fixed)))


def number(value: np.float32) -> relax.Expr:
    return relax.const(float(value), "float32")


def real(x: Operand, zero: int) -> relax.Expr:
    """The bytes of `x` less `zero`, as float32."""
    unit = relax.const(1.0, "float32")
    return relax.op.dequantize(x.value, unit, constant(np.asarray(zero, x.dtype)), axis=-1, out_dtype="float32")
