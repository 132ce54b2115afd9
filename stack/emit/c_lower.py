"""Scheduled TensorIR -> the plain tree of statements that `c_printer` prints: loops, stores, local buffers.

    with T.sblock("pool"): T.init(): acc = 0; ...     ->     acc[0] = 0;  for i: acc[0] = acc[0] + x[0, h, i, c]

Indices keep one number a dimension; `c_expressions` makes addresses of them. (TVM's `FlattenBuffer` would make them here, and wrongly:
see `shield_division`.)
"""

import tvm
from tvm import s_tir, tirx

from stack.emit.c_guards import move_guards
from stack.emit.c_simplify import simplify_control


def lowering() -> tvm.transform.Sequential:
    s, t = s_tir.transform, tirx.transform
    return tvm.transform.Sequential(
        [
            s.CanonicalizeLoop(),
            s.LowerInitBlock(),
            s.PlanAndUpdateBufferAllocationLocation(),
            s.ConvertBlocksToOpaque(),
            s.CompactBufferAllocation(),
            s.LowerMatchBuffer(),
            s.LowerOpaqueBlock(),
            simplify_control,
            s.LoopPartition(),
            s.HoistIfThenElse(),
            t.UnrollLoop(),
            simplify_control,  # decides the conditions that are now constant
            move_guards,
            simplify_control,  # the loops that were made
            s.RewriteUnsafeSelect(),
        ]
    )


def lower(program: tirx.PrimFunc) -> tirx.PrimFunc:
    return lowering()(tvm.IRModule({"main": program.with_attr("global_symbol", "main")}))["main"]
