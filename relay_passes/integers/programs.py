"""Programs that a pass adds to a module: written in TE, alike ones shared, and closed to TVM's fusion.

programs.call("add", [x1, x2, y], [a, b])   ->   R.call_tir(add, (a, b), out_ty=R.Tensor(y.shape, y.dtype))
"""

from collections.abc import Sequence

import tvm
from tvm import relax, te

from schedules.integer import Conv2D, Depthwise, describe

OPAQUE = 8  # TVM's pattern kind that FuseOps keeps apart


class Programs:
    def __init__(self, module: tvm.IRModule) -> None:
        self.builder = relax.BlockBuilder(module)

    def call(
        self, name: str, tensors: Sequence[te.Tensor], arguments: Sequence[relax.Expr], op: Conv2D | Depthwise | None = None
    ) -> relax.Call:
        """A call of the program that computes the last of `tensors` from the others; `op` is written on it for the rules."""
        program = te.create_prim_func(list(tensors), index_dtype_override="int64").without_attr("global_symbol")
        program = program.with_attr("op_pattern", OPAQUE)
        variable = self.builder.add_func(describe(program, op) if op else program, name)
        result = tensors[-1]
        return relax.call_tir(variable, list(arguments), relax.TensorType([int(extent) for extent in result.shape], str(result.dtype)))


def placeholder(expr: relax.Expr, name: str) -> te.Tensor:
    """A tensor of the shape and dtype of `expr`."""
    return te.placeholder(tuple(int(extent) for extent in expr.ty.shape), str(expr.ty.dtype.dtype), name=name)
