"""TVM's own default schedules for GPUs (`tvm.s_tir.dlight`) as rules of ours. No knobs: each offers one point.

    conv2d + bias + relu (NCHW)  ->  implicit matrix multiplication: blockIdx (y, x), threadIdx (y, x), both operands through shared memory
    softmax, layer norm          ->  a block a row, reduced across its threads
    anything else                ->  elementwise stages inlined, 1024 threads a block

They need no search and take every program, at the price of speed; rules with knobs go in front of them.
"""

from math import prod

from tvm import s_tir, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.dlight import gpu
from tvm.target import Target
from tvm_ffi import structural_walk

from schedules.machine import Machine
from schedules.rule import Rule
from schedules.space import Point, Space


def tvm_target(machine: Machine) -> Target:
    """What dlight wants to know about `machine`."""
    return Target(
        {
            "kind": "cuda",
            "arch": f"sm_{machine.compute_capability}",
            "max_num_threads": machine.threads_per_block,
            "max_threads_per_block": machine.threads_per_block,
            "max_shared_memory_per_block": machine.shared_bytes,
            "thread_warp_size": machine.lanes(),
        }
    )


def from_dlight(name: str, rule: gpu.base.GPUScheduleRule) -> Rule:
    """One of dlight's rules as a rule of ours."""

    def wrapped(program: tirx.PrimFunc, machine: Machine) -> Space | None:
        target = tvm_target(machine)
        with target:  # some of the rules ask for the target in force, others take the argument
            found = rule.apply(program, target, False)
        if found is None:
            return None
        schedule: Schedule = found[0] if isinstance(found, list) else found

        def apply(_point: Point) -> Schedule:
            return schedule.copy()

        return Space(rule=name, default={}, apply=apply)

    wrapped.__name__ = name
    return wrapped


def reductions(program: tirx.PrimFunc) -> list[int]:
    """How many values each reduction of `program` adds up."""
    found: list[int] = []

    def visit(block: s_tir.SBlock) -> None:
        axes = [int(axis.dom.extent) for axis in block.iter_vars if axis.iter_type == tirx.IterVar.CommReduce]
        if axes:
            found.append(prod(axes))

    structural_walk(program.body, (s_tir.SBlock, visit))
    return found


def unless_short(rule: Rule) -> Rule:
    """`rule`, but not for one reduction of fewer values than a warp has threads: a depthwise convolution, a pooling window.

    dlight would give each of its outputs a whole block, of which 9 threads work where the filter is 3x3.
    """

    def wrapped(program: tirx.PrimFunc, machine: Machine) -> Space | None:
        extents = reductions(program)
        return None if len(extents) == 1 and extents[0] < machine.lanes() else rule(program, machine)

    return wrapped


RULES: list[Rule] = [
    from_dlight("gpu_matmul", gpu.Matmul()),
    from_dlight("gpu_gemv", gpu.GEMV()),
    from_dlight("gpu_reduction", gpu.Reduction()),
    unless_short(from_dlight("gpu_general_reduction", gpu.GeneralReduction())),
    from_dlight("gpu_transpose", gpu.Transpose()),
    from_dlight("fallback", gpu.Fallback()),
]
