"""What there is to tune in a model: its distinct programs, each with its space and with how often the model calls it.

in:  IRModule, Relax main that calls unscheduled TensorIR programs
out: a Task for each program whose space has more than one point
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import tvm
import tvm_ffi
from tvm import relax, tirx

from schedules.apply import constants_of_calls
from schedules.machine import Machine
from schedules.rule import Rule, first_space
from schedules.space import Array, Space

ONLY_FOR_ROOFLINES = ("ghz", "bandwidth")


@dataclass(frozen=True)
class Task:
    """One distinct program. `calls` is how often the model runs it; `constants` are the constant operands of its first call, in order."""

    key: str
    name: str
    program: tirx.PrimFunc = field(repr=False)
    space: Space = field(repr=False)
    calls: int
    constants: Sequence[Array] = field(repr=False)


def program_key(program: tirx.PrimFunc) -> str:
    """The same 16 digits for the same program whatever it or its buffers are called, in every process and on every machine."""
    nameless = program.without_attr("global_symbol")
    return f"{tvm_ffi.structural_hash(nameless, map_free_vars=True) & (1 << 64) - 1:016x}"


def machine_key(machine: Machine) -> str:
    """12 digits for what a schedule may depend on: two machines with the same ones may share decisions."""
    numbers = {name: value for name, value in asdict(machine).items() if name not in ONLY_FOR_ROOFLINES}
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:12]


def extract(module: tvm.IRModule, rules: Sequence[Rule], machine: Machine) -> list[Task]:
    """The tasks of `module`, in the order of the model's first calls."""
    main = module["main"]
    values = [binding.value for block in main.body.blocks for binding in block.bindings]
    called = [value.op for value in values if isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.GlobalVar)]
    counts = Counter(variable.name_hint for variable in called)
    constants = constants_of_calls(main)
    tasks = []
    for variable in dict.fromkeys(called):
        program = module[variable]
        if not isinstance(program, tirx.PrimFunc):
            continue
        space = first_space(rules, program, machine)
        if space.size > 1:
            name = variable.name_hint
            tasks.append(Task(program_key(program), name, program, space, counts[name], constants.get(name, [[]])[0]))
    return tasks
