"""A job as processes that build its candidates know it: a folder with its program, its inputs and constants, and the right outputs.

The runner makes the folder and writes the job; the first request for it, Prepare, has a process write what all candidates share.
"""

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad

from schedules.rule import Rule, first_space
from schedules.space import Space
from schedules.tuning.measurement import Job
from stack.manifest import Tensor
from stack.measure.candidate import Argument, Array
from stack.samples import draw
from targets.registry import family_of
from targets.target import Target

RECENT = 32  # jobs whose programs and constants are kept
SEED = 0


@dataclass(frozen=True)
class Prepare:
    """Put into `folder`, which has the job, what all its candidates are compared with."""

    folder: Path


@dataclass(frozen=True)
class Known:
    """A job as its candidates need it: its program and space, the arguments in the program's order, the constants among them."""

    job: Job
    program: tirx.PrimFunc
    space: Space
    arguments: Sequence[Argument]
    constants: Sequence[Array]
    rounds: bool

    def of(self, role: str) -> list[Argument]:
        return [argument for argument in self.arguments if argument.role == role]

    def write_inputs(self) -> None:
        for role, arrays in (("constant", self.constants), ("input", drawn(self.of("input")))):
            for argument, array in zip(self.of(role), arrays, strict=True):
                write(argument.file, array)

    def write_outputs(self, right: Sequence[Array]) -> None:
        for argument, array in zip(self.of("output"), right, strict=True):
            write(argument.file, array)


class Jobs:
    """The jobs that a process was asked about of late, by their folders."""

    def __init__(self, target: Target, rules: str) -> None:
        self.machine, self.rules = target.machine, rules_of(target, rules)
        self.known: OrderedDict[Path, Known] = OrderedDict()

    def know(self, folder: Path) -> Known:
        if folder not in self.known:
            job = read_job(folder)
            program = only_program(job)
            space = first_space(self.rules, program, replace(self.machine, reduced_precision=job.precision != "f32"))
            arguments = arguments_of(job, program, folder)
            constants = list(job.constants) or drawn([each for each in arguments if each.role == "constant"])
            self.known[folder] = Known(job, program, space, arguments, constants, rounds(program, arguments))
            if len(self.known) > RECENT:
                self.known.popitem(last=False)
        self.known.move_to_end(folder)
        return self.known[folder]


def rules_of(target: Target, named: str) -> Sequence[Rule]:
    """Those that `named` says as "module:attribute", or where it is empty the family's."""
    if not named:
        return family_of(target).rules
    module, attribute = named.split(":")
    rules: Sequence[Rule] = getattr(import_module(module), attribute)
    return rules


def read_job(folder: Path) -> Job:
    """The job that the runner put there."""
    with (folder / "job").open("rb") as stream:
        job = pickle.load(stream)  # of our own process, in a folder of its own
    assert isinstance(job, Job)
    return job


def only_program(job: Job) -> tirx.PrimFunc:
    (program,) = tvm.ir.load_json(job.program).functions.values()
    return program


def written(program: tirx.PrimFunc) -> set[int]:
    """Which parameters the program stores to."""
    stored: list[tirx.Var] = []
    tvm_ffi.structural_walk(program.body, (tirx.BufferStore, lambda store: stored.append(store.buffer)))
    return {index for index, parameter in enumerate(program.params) if any(parameter.same_as(buffer) for buffer in stored)}


def rounds(program: tirx.PrimFunc, arguments: Sequence[Argument]) -> bool:
    """Whether floats are rounded to integers on the way to the outputs."""
    found: list[str] = []
    whole: list[bool] = []
    tvm_ffi.structural_walk(program.body, (TensorLoad, lambda node: found.append(str(node.ty))))
    tvm_ffi.structural_walk(program.body, (tirx.Cast, lambda node: whole.append(is_float(node.value.ty) and not is_float(node.ty))))
    tvm_ffi.structural_walk(program.body, (tvm.ir.Call, lambda node: whole.append(takes_bits(node))))
    floats = any(is_float(each.dtype) for each in arguments if each.role == "output")
    return any(whole) or (any(map(is_float, found)) and not floats)


def takes_bits(call: tvm.ir.Call) -> bool:
    """Whether it is an integer of a float's bits, as a sum with a large number rounds."""
    return bool(getattr(call.op, "name", "").endswith(".reinterpret") and is_float(call.args[0].ty) and not is_float(call.ty))


def is_float(dtype: object) -> bool:
    return "float" in str(dtype)


def arguments_of(job: Job, program: tirx.PrimFunc, folder: Path) -> list[Argument]:
    outputs = written(program)
    constant = [*job.constant, *[False] * (len(program.params) - len(job.constant))]
    made = []
    for index, parameter in enumerate(program.params):
        role = "output" if index in outputs else "constant" if constant[index] else "input"
        shape = tuple(int(extent) for extent in parameter.shape)
        made.append(Argument(role, shape, str(parameter.dtype), folder / f"argument{index}"))
    return made


def drawn(arguments: Sequence[Argument]) -> list[Array]:
    return list(draw([Tensor(str(index), tuple(each.shape), each.dtype) for index, each in enumerate(arguments)], SEED).values())


def write(file: Path, array: Array) -> Path:
    file.write_bytes(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return file
