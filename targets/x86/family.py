"""How x86 machines are compiled for: blocked layouts, vector rules, LLVM objects linked into a library of plain C functions."""

from collections.abc import Sequence

from tvm.ir.transform import Pass

from relay_passes.choices import Choices
from relay_passes.pipeline import cpu_passes
from schedules.cpu import RULES
from schedules.machine import Machine
from targets.target import Family


def graph_passes(machine: Machine, choices: Choices) -> Sequence[Pass]:
    return cpu_passes(machine, choices)


def family() -> Family:
    return Family(name="x86", graph_passes=graph_passes, rules=RULES, container="native", precisions=("f32", "bf16"))
