"""What there is to tune in a model, a task for each distinct program, and the keys by which programs and machines are known."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import tvm_ffi
from tvm import tirx

from schedules.machine import Machine
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
