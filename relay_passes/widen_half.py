"""Compute float16 models in float32, for machines that have no float16 arithmetic.

    y = conv2d(x, w)       float16   ->   y = astype(conv2d(astype(x, float32), w), float16)       w in float32
    z = relu(y)                           (casts stand at inputs and outputs only)

Without float16 units each operation would be a cast, a float32 operation and a cast, and sums would keep eleven bits. Inputs and outputs
keep their type; weights take twice the room; results are closer to the exact ones, and what overflowed may be finite. Left alone: functions
that call programs, or operators whose attributes name float16.
"""

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst

from relay_passes.rewrite import array, constant, dtype, is_tensor, op_name

HALF, FULL = "float16", "float32"
NAMES_A_TYPE = ("out_dtype", "dtype")


def is_half(expr: relax.Expr) -> bool:
    return is_tensor(expr) and dtype(expr) == HALF


def can_widen(value: relax.Expr) -> bool:
    """Whether `value` means the same over float32 tensors."""
    if not isinstance(value, relax.Call) or not (is_half(value) or any(is_half(argument) for argument in value.args)):
        return not isinstance(value, relax.If)
    if not isinstance(value.op, tvm.ir.Op) or value.op.name == "relax.call_tir":
        return False
    return value.op.name == "relax.astype" or all(str(getattr(value.attrs, name, "")) != HALF for name in NAMES_A_TYPE)


class Widener:
    """Re-emits one straight-line function with float32 in the place of float16."""

    def __init__(self) -> None:
        self.builder = relax.BlockBuilder()
        self.wide: dict[relax.Var, relax.Expr] = {}

    def function(self, old: relax.Function) -> relax.Function:
        (block,) = old.body.blocks
        with self.builder.function("main", list(old.params), attrs=dict(old.attrs or {})):
            with self.builder.dataflow():
                for param in old.params:
                    self.wide[param] = self.builder.emit(relax.op.astype(param, FULL)) if is_half(param) else param
                for binding in block.bindings:
                    self.wide[binding.var] = self.builder.emit(self.renew(binding.value))
                result = self.builder.emit_output(self.narrow(old.body.body.ty, self.renew(old.body.body)))
            self.builder.emit_func_output(result)
        return self.builder.finalize()["main"]

    def renew(self, expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Var):
            return self.wide[expr]
        if isinstance(expr, GenericConst) and is_half(expr):
            return constant(np.asarray(array(expr)).astype(FULL))
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.renew(field) for field in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            return relax.TupleGetItem(self.renew(expr.tuple_value), expr.index)
        if isinstance(expr, relax.Call):
            arguments = [self.renew(argument) for argument in expr.args]
            if is_half(expr) and expr.op.name == "relax.astype":
                return relax.op.astype(arguments[0], FULL)
            return relax.Call(expr.op, arguments, expr.attrs, expr.ty_args)
        return expr

    def narrow(self, old: tvm.ir.Type, new: relax.Expr) -> relax.Expr:
        """`new` in the types that the old function returned."""
        if isinstance(old, relax.TupleType):
            fields = [self.builder.emit(relax.TupleGetItem(new, index)) for index in range(len(old.fields))]
            return relax.Tuple([self.narrow(kind, field) for kind, field in zip(old.fields, fields, strict=True)])
        half = isinstance(old, relax.TensorType) and str(old.dtype.dtype) == HALF
        return self.builder.emit(relax.op.astype(new, HALF)) if half else new


def run(function: relax.Function, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> relax.Function:
    blocks = function.body.blocks
    if len(blocks) != 1 or not isinstance(blocks[0], relax.DataflowBlock):
        return function
    values = [binding.value for binding in blocks[0].bindings]
    computed = [value for value in values if isinstance(value, relax.Call) and is_half(value)]
    casts = [value for value in computed if op_name(value) == "relax.astype" and dtype(value.args[0]) == FULL]
    if len(casts) == len(computed) or not all(can_widen(value) for value in values):
        return function  # nothing is computed in float16, or not all of it can be widened
    return Widener().function(function)


widen_half = relax.transform.function_pass(run, opt_level=0, name="widen_half")
