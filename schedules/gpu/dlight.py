"""TVM's own default schedules for GPUs (`tvm.s_tir.dlight`) as rules of ours. No knobs: each offers one point.

    conv2d + bias + relu (NCHW)  ->  implicit matrix multiplication: blockIdx (y, x), threadIdx (y, x), both operands through shared memory
    softmax, layer norm          ->  a block a row, reduced across its threads
    anything else                ->  elementwise stages inlined, 1024 threads a block

They need no search and take every program, at the price of speed; rules with knobs go in front of them.
"""

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.dlight import gpu
from tvm.target import Target

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


RULES: list[Rule] = [
    from_dlight("gpu_matmul", gpu.Matmul()),
    from_dlight("gpu_gemv", gpu.GEMV()),
    from_dlight("gpu_reduction", gpu.Reduction()),
    from_dlight("gpu_general_reduction", gpu.GeneralReduction()),
    from_dlight("gpu_transpose", gpu.Transpose()),
    from_dlight("gpu_fallback", gpu.Fallback()),
]
