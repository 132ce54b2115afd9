"""UNIDIRECTIONAL_SEQUENCE_LSTM: a layer over a sequence, unrolled into its steps; h and c stay from run to run.

    x [b, t, i] or, time first, [t, b, i]; weights [n, i] and [n, n], bias [n] for each gate; h and c [b, n]

    gate    = f(x_t . W^T + bias + h . R^T)            sigmoid for the input, forget and output gates, an option for the cell gate
    c'      = forget * c + input * cell                clipped where the node says so
    h'      = output * tanh(c')

Quantised (int8 or int16 activations, int8 weights, int16 cell), each line is an island of its own, with the scales of the integer kernel:

    a       = quantize(add(matmul(dequantize(x_t), dequantize(W)), bias), 2^-12)      int16
    r       = quantize(matmul(dequantize(h), dequantize(R)), 2^-12)                   int16
    s       = quantize(add(dequantize(a), dequantize(r)), 2^-12)                      int16: a sum that saturates, for the scales are equal
    gate    = quantize(sigmoid(dequantize(s)), 2^-15)                                 int16, or tanh
    p, q    = quantize(multiply(dequantize(forget), dequantize(c)), c's scale)        int16, and the same of input and cell
    c'      = quantize(add(dequantize(p), dequantize(q)), c's scale)                  int16, saturating; then a clip, of integers
    g       = quantize(tanh(dequantize(c')), 2^-15)                                   int16
    h'      = quantize(multiply(dequantize(g), dequantize(output)), h's scale)        as h

c's scale is a power of two. The result of each step is h' as it is stored.
"""

import numpy as np
from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused, dequantize, quantize
from stack.frontends.tflite.graph import Affine
from stack.frontends.tflite.operators.activations import NONE, TANH, activate
from stack.frontends.tflite.operators.convolution import expect_rank

INPUT, FORGET, CELL, OUTPUT = range(4)
WEIGHTS, RECURRENT, BIASES = 1, 5, 12  # positions of the first gate's; the others follow
PEEPHOLES, PROJECTIONS, HIDDEN, MEMORY, NORMS = range(9, 12), range(16, 18), 18, 19, range(20, 24)
SIGMOID = -1
LONGEST = 1024


def power(exponent: int) -> Affine:
    return Affine(np.array([2.0**exponent], np.float32), np.zeros(1, np.int32))


SUMS, GATES = power(-12), power(-15)


class Step:
    """Operators over tensors as they are stored: float where the layer is, integers with a scale where it is quantised."""

    def __init__(self, c: Conversion) -> None:
        self.c = c
        self.quantized = c.affine(0) is not None
        self.hidden, self.memory = c.tensor(HIDDEN), c.tensor(MEMORY)

    def real(self, stored: relax.Expr, affine: Affine | None, dtype: str) -> relax.Expr:
        return self.c.emit(dequantize(stored, affine, dtype)) if affine else stored

    def stored(self, real: relax.Expr, affine: Affine | None, dtype: str = "int16") -> relax.Expr:
        real = self.c.emit(real)
        return self.c.emit(quantize(real, affine, dtype)) if affine and self.quantized else real

    def product(self, data: relax.Expr, source: int, weights: int, bias: int | None = None) -> relax.Expr:
        """A dense layer over tensors with the scales of the inputs `source` and `weights`."""
        c = self.c
        turned = c.emit(relax.op.permute_dims(c.stored(weights), [1, 0]))
        given, other = c.affine(source), c.affine(weights)
        result = relax.op.matmul(self.real(data, given, c.tensor(source).dtype), self.real(turned, other, c.tensor(weights).dtype))
        if bias is not None and given and other:
            scale = given.scale * other.scale
            value = c.value(bias)
            if abs(value.astype(object)).max(initial=0) >= 1 << 31:
                raise Refused(f"its bias {c.tensor(bias).name!r} needs more than 32 bits")
            added = dequantize(c.const(value, "int32"), Affine(scale, np.zeros(scale.shape, np.int32)), "int32")
            result = relax.op.add(c.emit(result), c.emit(added))
        elif bias is not None:
            result = relax.op.add(c.emit(result), c.stored(bias))
        return self.stored(result, SUMS)

    def pair(self, operator: str, left: relax.Expr, right: relax.Expr, *scales: Affine | None) -> relax.Expr:
        """`scales` are those of both sides and of the result."""
        first, second, result = scales if self.quantized else (None, None, None)
        return self.stored(getattr(relax.op, operator)(self.real(left, first, "int16"), self.real(right, second, "int16")), result)

    def curve(self, kind: int, data: relax.Expr, scale: Affine | None) -> relax.Expr:
        real = self.real(data, scale if self.quantized else None, "int16")
        return self.stored(relax.op.sigmoid(real) if kind == SIGMOID else activate(kind, real), GATES)

    def gate(self, gate: int, data: relax.Expr, hidden: relax.Expr, kind: int) -> relax.Expr:
        ours = self.product(data, 0, WEIGHTS + gate, BIASES + gate)
        kept = self.product(hidden, HIDDEN, RECURRENT + gate)
        return self.curve(kind, self.pair("add", ours, kept, SUMS, SUMS, SUMS), SUMS)

    def run(self, data: relax.Expr, hidden: relax.Expr, memory: relax.Expr) -> tuple[relax.Expr, relax.Expr]:
        """The next h and c."""
        c, scale = self.c, self.memory.affine
        forget, given = self.gate(FORGET, data, hidden, SIGMOID), self.gate(INPUT, data, hidden, SIGMOID)
        cell = self.gate(CELL, data, hidden, c.option("fused_activation_function"))
        left = self.pair("multiply", forget, memory, GATES, scale, scale)
        right = self.pair("multiply", given, cell, GATES, GATES, scale)
        memory = self.clipped(self.pair("add", left, right, scale, scale, scale))
        opened, bent = self.gate(OUTPUT, data, hidden, SIGMOID), self.curve(TANH, memory, scale)
        first = self.real(bent, GATES if self.quantized else None, "int16")
        second = self.real(opened, GATES if self.quantized else None, "int16")
        return self.stored(relax.op.multiply(first, second), self.hidden.affine, self.hidden.dtype), memory

    def clipped(self, memory: relax.Expr) -> relax.Expr:
        limit = self.c.option("cell_clip")
        if limit <= 0:
            return memory
        if self.quantized and self.memory.affine:
            limit = int(np.clip(limit / float(self.memory.affine.scale[0]), -32768, 32767))
        return self.c.emit(relax.op.clip(memory, -limit, limit))


def lstm(c: Conversion) -> list[relax.Expr]:
    expect_rank(c, 3, 2)
    check(c)
    time_first = c.option("time_major")
    time, batch = (0, 1) if time_first else (1, 0)
    extents, units = c.shape(0), c.shape(WEIGHTS)[0]
    if extents[time] > LONGEST:
        raise Refused(f"its sequence of {extents[time]} steps is too long to unroll")
    step, rows, results = Step(c), extents[batch], []
    hidden, memory = (c.emit(relax.op.reshape(c.stored(index), [rows, units])) for index in (HIDDEN, MEMORY))
    for position in range(extents[time]):
        data = c.emit(relax.op.strided_slice(c.stored(0), [time], [position], [position + 1], [1]))
        data = c.emit(relax.op.reshape(data, [rows, extents[2]]))
        hidden, memory = step.run(data, hidden, memory)
        results.append(c.emit(relax.op.reshape(hidden, [1, rows, units] if time_first else [rows, 1, units])))
    c.set_state(c.tensor(HIDDEN).name, c.emit(relax.op.reshape(hidden, c.shape(HIDDEN))))
    c.set_state(c.tensor(MEMORY).name, c.emit(relax.op.reshape(memory, c.shape(MEMORY))))
    return [relax.op.concat(results, time) if len(results) > 1 else results[0]]


def check(c: Conversion) -> None:
    """Refuse the variants of the layer that TFLite Micro has no kernel for either."""
    if any(c.has(index) for index in PEEPHOLES):
        raise Refused("its peepholes, from the cell to the gates, are not compiled")
    if any(c.has(index) for index in PROJECTIONS):
        raise Refused("the projection of its result is not compiled")
    if any(c.has(index) for index in NORMS):
        raise Refused("the normalisation in its gates is not compiled")
    if c.option("fused_activation_function") not in (NONE, TANH):
        raise Refused("only tanh is compiled in its cell gate")
    for index in (*range(1, 9), *range(BIASES, BIASES + 4)):
        c.tensor(index)
    if not (c.tensor(HIDDEN).variable and c.tensor(MEMORY).variable):
        raise Refused("its states are not marked as variable")
    kinds = [c.affine(index) is not None for index in (0, *range(1, 9), HIDDEN, MEMORY)]
    if (any(kinds) and not all(kinds)) or (kinds[0] and c.tensor(MEMORY).dtype != "int16"):
        raise Refused("only some of its tensors are quantised, or its cell is not int16")
    memory = c.affine(MEMORY)
    if memory and np.frexp(memory.scale[0])[0] != 0.5:
        raise Refused(f"the scale of its cell, {memory.scale[0]}, is no power of two")


STORED: dict[str, Converter] = {"UNIDIRECTIONAL_SEQUENCE_LSTM": lstm}
