"""Scheduled TensorIR -> the plain tree of statements that `c_printer` prints: loops, stores, local buffers.

    with T.sblock("pool"): T.init(): acc = 0; ...     ->     acc[0] = 0;  for i: acc[0] = acc[0] + x[0, h, i, c]

The order is that of TVM's own CPU pipeline less what only vectors, threads and GPUs need; addresses and conditions are ours.
"""

from dataclasses import dataclass

import tvm
from tvm import s_tir, tirx

from stack.emit.c_addresses import flatten_addresses
from stack.emit.c_guards import move_guards
from stack.emit.c_simplify import simplify_control


def to_loops() -> tvm.transform.Sequential:
    """Blocks become loops around stores."""
    s = s_tir.transform
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
        ]
    )


def to_c() -> tvm.transform.Sequential:
    """Loops become what a person would write: unrolled where they should be, with few conditions inside."""
    s, t = s_tir.transform, tirx.transform
    return tvm.transform.Sequential(
        [
            s.LoopPartition(),
            s.HoistIfThenElse(),
            t.UnrollLoop(),
            simplify_control,  # decides the conditions that are now constant
            move_guards,
            simplify_control,  # the loops that were made
            s.RewriteUnsafeSelect(),
            flatten_addresses,
        ]
    )


@dataclass(frozen=True)
class Lowered:
    """`loops` computes as `statements` does, in the same order, but is not unrolled: good to find out about."""

    loops: tirx.PrimFunc
    statements: tirx.PrimFunc


def lower(program: tirx.PrimFunc) -> Lowered:
    loops = to_loops()(tvm.IRModule({"main": program.with_attr("global_symbol", "main")}))
    return Lowered(flatten_addresses(loops)["main"], to_c()(loops)["main"])
