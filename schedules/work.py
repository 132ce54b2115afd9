"""How much one tensor program does at least: what a roofline divides by, counted before any schedule changes the loops.

in:  an unscheduled TensorIR program
out: Work(flops=173394000, bytes=1149184): a multiply and an add are two operations, and each element moves once between memory and core

A call to exp or tanh counts as nothing, since what it costs is up to the kernel. Of a table that is indexed (an embedding), only as many
elements count as are read.
"""

from dataclasses import dataclass
from math import prod

import tvm
from tvm import s_tir, tirx
from tvm.s_tir.analysis import estimate_tir_flops
from tvm_ffi import VisitInterrupt, structural_walk


@dataclass(frozen=True)
class Work:
    flops: int
    bytes: int


def count_work(program: tirx.PrimFunc) -> Work:
    """Operations of `program`, and the bytes of its arguments that it touches."""
    accesses = dict.fromkeys(program.params, 0)

    def visit_block(block: s_tir.SBlock) -> None:
        times = prod(int(axis.dom.extent) for axis in block.iter_vars)

        def visit_buffer(buffer: tvm.ir.Var) -> None:
            if buffer in accesses:
                accesses[buffer] += times

        if structural_walk(block.body, (s_tir.SBlock, lambda _: VisitInterrupt())) is None:  # the root block only holds the others
            structural_walk(block.body, (tvm.ir.Var, visit_buffer))  # a load or a store names its buffer once

    structural_walk(program.body, (s_tir.SBlock, visit_block))
    touched = sum(min(times, elements(buffer)) * item_bytes(buffer) for buffer, times in accesses.items())
    return Work(flops=int(estimate_tir_flops(tvm.IRModule({"main": program}))), bytes=touched)


def elements(buffer: tirx.Buffer) -> int:
    return prod(int(extent) for extent in buffer.shape)


def item_bytes(buffer: tirx.Buffer) -> int:
    return int(tvm.DataType(buffer.dtype).itemsize)
