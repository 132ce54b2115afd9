"""How Cortex-M microcontrollers are compiled for: integer programs, kernels written for each layer, C sources over one arena."""

from collections.abc import Sequence

from tvm.ir.transform import Pass

from relay_passes.choices import Choices
from relay_passes.pipeline import mcu_passes
from schedules.machine import Machine
from schedules.mcu import RULES
from targets.target import Family


def graph_passes(machine: Machine, choices: Choices) -> Sequence[Pass]:
    return mcu_passes(machine, choices)


def family() -> Family:
    return Family(name="cortex_m", graph_passes=graph_passes, rules=RULES, container="c")
