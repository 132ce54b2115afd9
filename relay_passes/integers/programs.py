"""Programs that a pass adds to a module: written in TE, alike ones shared, and closed to TVM's fusion unless told otherwise.

programs.call("add", [x1, x2, y], [a, b])   ->   R.call_tir(add, (a, b), out_ty=R.Tensor(y.shape, y.dtype))
"""

from collections.abc import Sequence

import tvm
from tvm import relax, te

from schedules.integer import Conv2D, Depthwise, describe

OPAQUE = 8  # TVM's pattern kind that FuseOps keeps apart
OUT_EWISE_FUSABLE = 4  # and the one behind which it fuses what works element by element


class Programs:
    def __init__(self, module: tvm.IRModule) -> None:
        self.builder = relax.BlockBuilder(module)

    def call(
        self,
        name: str,
        tensors: Sequence[te.Tensor],
        arguments: Sequence[relax.Expr],
        op: Conv2D | Depthwise | None = None,
        pattern: int = OPAQUE,
    ) -> relax.Call:
        """A call of the program that computes the last of `tensors` from the others; `op` is written on it for the rules, `pattern` for
        TVM's fusion."""
        program = te.create_prim_func(list(tensors), index_dtype_override="int64").without_attr("global_symbol")
        program = program.with_attr("op_pattern", pattern)
        variable = self.builder.add_func(describe(program, op) if op else program, name)
        result = tensors[-1]
        return relax.call_tir(variable, list(arguments), relax.TensorType([int(extent) for extent in result.shape], str(result.dtype)))


def placeholder(expr: relax.Expr, name: str) -> te.Tensor:
    """A tensor of the shape and dtype of `expr`."""
    return te.placeholder(tuple(int(extent) for extent in expr.ty.shape), str(expr.ty.dtype.dtype), name=name)
