"""Converters of our own for nodes that TVM imports as finished TensorIR programs or as stack-and-reduce: Clip, Pad, Max, Min, Sum, Mean.

They become the plain Relax operators that fusion, layout and folding know. A converter returns None to leave a node to TVM's.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import GenericConst, Op, make_node

from relay_passes.bytes.sums import REAL_SUM

DEQUANTIZE = Op.get("relax.dequantize")
Inputs = list[Any]  # expressions; None for an optional input that is absent
Converter = Callable[[relax.BlockBuilder, Inputs, dict[str, Any], int], relax.Expr | None]


def constant(value: relax.Expr | None) -> np.ndarray | None:
    return value.value.numpy() if isinstance(value, GenericConst) else None


def clip(builder: relax.BlockBuilder, inputs: Inputs, attrs: dict[str, Any], opset: int) -> relax.Expr | None:
    """maximum, then minimum; a bound that is NaN bounds nothing, as in ONNX Runtime."""
    data = inputs[0]
    if opset < 11:
        bounds = [np.asarray(attrs[key], np.float32) if key in attrs else None for key in ("min", "max")]
    else:
        given = [inputs[index] if len(inputs) > index else None for index in (1, 2)]
        bounds = [constant(bound) for bound in given]
        if any(bound is None and value is not None for bound, value in zip(bounds, given, strict=True)):
            return None
    for bound, operator in zip(bounds, (relax.op.maximum, relax.op.minimum), strict=True):
        if bound is not None and not np.isnan(bound):
            data = builder.emit(operator(data, relax.const(np.asarray(bound).reshape(()), data.ty.dtype.dtype)))
    return data


def pairwise(operator: Callable[[relax.Expr, relax.Expr], relax.Expr]) -> Converter:
    def convert(builder: relax.BlockBuilder, inputs: Inputs, attrs: dict[str, Any], opset: int) -> relax.Expr:
        return functools.reduce(lambda left, right: builder.emit(operator(left, right)), inputs)

    return convert


def mean(builder: relax.BlockBuilder, inputs: Inputs, attrs: dict[str, Any], opset: int) -> relax.Expr:
    total = functools.reduce(lambda left, right: builder.emit(relax.op.add(left, right)), inputs)
    return relax.op.divide(total, relax.const(len(inputs), total.ty.dtype.dtype))


def total(builder: relax.BlockBuilder, inputs: Inputs, attrs: dict[str, Any], opset: int) -> relax.Expr:
    """One of two quantised tensors says that it is no Add, which alone ONNX Runtime computes over bytes."""
    makers = [builder.lookup_binding(value) if isinstance(value, relax.Var) else None for value in inputs]
    if len(inputs) != 2 or any(not isinstance(maker, relax.Call) or maker.op != DEQUANTIZE for maker in makers):
        return pairwise(relax.op.add)(builder, inputs, attrs, opset)
    return relax.Call(relax.op.add(*inputs).op, inputs, make_node("ir.DictAttrs", **{REAL_SUM: True}))


def pad(builder: relax.BlockBuilder, inputs: Inputs, attrs: dict[str, Any], opset: int) -> relax.Expr | None:
    """Constant padding of every axis without negative amounts; other modes and forms stay with TVM's converter."""
    if opset < 11 or attrs.get("mode", b"constant") != b"constant" or (len(inputs) > 3 and inputs[3] is not None):
        return None
    amounts, fill = constant(inputs[1]), np.zeros(()) if len(inputs) < 3 or inputs[2] is None else constant(inputs[2])
    if amounts is None or fill is None or (amounts < 0).any():
        return None
    before, after = np.split(amounts, 2)
    widths = [int(amount) for pair in zip(before, after, strict=True) for amount in pair]
    return relax.op.nn.pad(inputs[0], widths, "constant", float(fill.reshape(())))


CONVERTERS: dict[str, Converter] = {
    "Clip": clip,
    "Max": pairwise(relax.op.maximum),
    "Mean": mean,
    "Min": pairwise(relax.op.minimum),
    "Pad": pad,
    "Sum": total,
}
