"""How NVIDIA GPUs are compiled for: plain NCHW, TVM's default GPU schedules, machine code embedded in a library of plain C functions."""

from collections.abc import Sequence

from tvm.ir.transform import Pass

from relay_passes.choices import Choices
from relay_passes.pipeline import gpu_passes
from schedules.gpu import RULES
from schedules.machine import Machine
from targets.target import Family


def graph_passes(machine: Machine, choices: Choices) -> Sequence[Pass]:
    return gpu_passes(machine, choices)


def family() -> Family:
    return Family(name="cuda", graph_passes=graph_passes, rules=RULES, container="cuda")
