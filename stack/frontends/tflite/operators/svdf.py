"""SVDF: a dense layer whose results are kept for the last M runs, and weighted over that time.

    x [b, i], feature weights [f, i], time weights [f, m], bias [u], state [b, f * m]; f = u * rank

    new     = x . feature weights^T                                    [b, f]
    state'  = state without its oldest column, and new behind it       [b, f, m]
    y       = sum over rank and time of state' * time weights, + bias  [b, u]

Quantised, each line is an island of its own: `new` is quantised with the scale of the state (int8 or int16), the shift works on integers,
and the last line has int32 sums of products of integers, the bias in their scale, and one requantisation:

    new     = quantize(matmul(dequantize(x), dequantize(w)), state's scale)
    y       = quantize(add(sum(multiply(dequantize(state' [b, u, rank * m]), dequantize(time weights [u, rank * m])), -1), bias), y's scale)

The integer kernel has no activation but the limits of int8, so none is written for it.
"""

import numpy as np
from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused, dequantize, quantize
from stack.frontends.tflite.graph import Affine
from stack.frontends.tflite.operators.activations import activate
from stack.frontends.tflite.operators.convolution import expect_rank

DATA, FEATURES, TIME, BIAS, STATE = range(5)


def svdf(c: Conversion) -> list[relax.Expr]:
    expect_rank(c, 2, 2, 2)
    rank, state = c.option("rank"), c.tensor(STATE)
    (rows, _), (filters, _), (timed, steps) = c.shape(DATA), c.shape(FEATURES), c.shape(TIME)
    if rank < 1 or filters % rank or timed != filters or not state.variable or c.shape(STATE) != (rows, filters * steps):
        raise Refused(f"rank {rank}, weights {list(c.shape(FEATURES))} and {list(c.shape(TIME))} and its state do not fit")
    units = filters // rank
    features = c.emit(relax.op.permute_dims(c.stored(FEATURES), [1, 0]))
    affine = c.affine(FEATURES)
    features = c.emit(dequantize(features, affine, c.tensor(FEATURES).dtype)) if affine else features
    new = c.emit(relax.op.matmul(c.real(DATA), features))
    kept = c.affine(STATE)
    new = c.emit(quantize(new, kept, state.dtype)) if kept else new
    old = c.emit(relax.op.reshape(c.stored(STATE), [rows, filters, steps]))
    late = c.emit(relax.op.strided_slice(old, [2], [1], [steps], [1]))
    now = c.emit(relax.op.concat([late, c.emit(relax.op.reshape(new, [rows, filters, 1]))], 2)) if steps > 1 else new
    c.set_state(state.name, c.emit(relax.op.reshape(now, [rows, filters * steps])))
    memory = c.emit(relax.op.reshape(now, [rows, units, rank * steps]))
    weights, timing = c.emit(relax.op.reshape(c.stored(TIME), [units, rank * steps])), c.affine(TIME)
    if kept and timing:
        memory = c.emit(dequantize(memory, kept, state.dtype))
        weights = c.emit(dequantize(weights, timing, c.tensor(TIME).dtype))
    total = c.emit(relax.op.sum(c.emit(relax.op.multiply(memory, weights)), [-1]))
    if c.has(BIAS):
        bias = c.stored(BIAS)
        if kept and timing:
            scale = kept.scale * timing.scale
            bias = c.emit(dequantize(bias, Affine(scale, np.zeros(scale.shape, np.int32)), "int32"))
        total = c.emit(relax.op.add(total, bias))
    out = c.outputs[0]
    if kept and out.affine:
        return [c.emit(quantize(total, out.affine, out.dtype))]
    return [activate(c.option("fused_activation_function"), total)]


STORED: dict[str, Converter] = {"SVDF": svdf}
