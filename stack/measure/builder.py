"""The process that builds x86 candidates: TVM is imported once, and programs, spaces and constants of recent jobs stay.

python -m stack.measure.builder DESCRIPTOR     # Prepare in: inputs, constants and right outputs as files; Build in: a Candidate out
"""

import pickle
import subprocess
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad

from schedules.cpu.fallback import fallback
from schedules.rule import Rule, first_space
from schedules.space import CannotPack, Point, Space
from schedules.tuning.measurement import Job
from stack.emit.kernels import build_object
from stack.manifest import Tensor
from stack.measure.candidate import Argument, Array, Candidate
from stack.measure.native import Environment, Timer
from stack.measure.serve import Refused, serve
from stack.samples import draw
from targets.registry import family_of
from targets.target import Target

KERNEL = "candidate"
RECENT = 32  # jobs whose programs are kept
SEED = 0


@dataclass(frozen=True)
class Setup:
    """What a building process works with. `rules` names others than the family's, as "module:attribute"."""

    target: Target
    environment: Environment
    rules: str = ""


@dataclass(frozen=True)
class Prepare:
    """Put into `folder`, which has the job, what all its candidates are compared with."""

    folder: Path


@dataclass(frozen=True)
class Build:
    """Build one point of the job in `folder`; `made` begins the names of the files."""

    folder: Path
    point: Point
    made: str


@dataclass(frozen=True)
class Known:
    """A job as its candidates need it: its program and space, the arguments in the program's order, the constants among them."""

    job: Job
    program: tirx.PrimFunc
    space: Space
    arguments: Sequence[Argument]
    constants: Sequence[Array]
    rounds: bool


def rules_of(setup: Setup) -> Sequence[Rule]:
    if not setup.rules:
        return family_of(setup.target).rules
    module, attribute = setup.rules.split(":")
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


def has_floats(program: tirx.PrimFunc) -> bool:
    found: list[str] = []
    for kind in (TensorLoad, tirx.Cast):
        tvm_ffi.structural_walk(program.body, (kind, lambda node: found.append(str(node.ty))))
    return any("float" in dtype for dtype in found)


class Builder:
    def __init__(self, setup: Setup) -> None:
        self.setup, self.rules = setup, rules_of(setup)
        self.codegen = tvm.target.Target(dict(setup.target.codegen))
        self.known: OrderedDict[Path, Known] = OrderedDict()

    def handle(self, request: Prepare | Build) -> Candidate | None:
        if isinstance(request, Prepare):
            self.prepare(request.folder)
            return None
        return self.build(self.know(request.folder), request)

    def know(self, folder: Path) -> Known:
        if folder not in self.known:
            job = read_job(folder)
            program = only_program(job)
            space = first_space(self.rules, program, self.setup.target.machine)
            arguments = arguments_of(job, program, folder)
            constants = list(job.constants) or drawn([each for each in arguments if each.role == "constant"])
            self.known[folder] = Known(job, program, space, arguments, constants, has_floats(program))
            if len(self.known) > RECENT:
                self.known.popitem(last=False)
        self.known.move_to_end(folder)
        return self.known[folder]

    def prepare(self, folder: Path) -> None:
        """Write the job's inputs and constants, and what its program computes from them by the plainest schedule there is."""
        known = self.know(folder)
        by_role = {role: [each for each in known.arguments if each.role == role] for role in ("input", "constant", "output")}
        for argument, array in zip(by_role["constant"], known.constants, strict=True):
            write(argument.file, array)
        for argument, array in zip(by_role["input"], drawn(by_role["input"]), strict=True):
            write(argument.file, array)
        plain = fallback(known.program, self.setup.target.machine)
        assert plain is not None
        library = self.compile(plain.apply(plain.default).mod["main"], folder / "reference")
        right = Timer(self.setup.environment).run(library, known.arguments)
        for argument, array in zip(by_role["output"], right, strict=True):
            write(argument.file, array)
        library.unlink()

    def build(self, known: Known, request: Build) -> Candidate:
        made = request.folder / request.made
        arguments = known.arguments
        if known.space.pack:
            try:
                packed = known.space.pack(request.point, known.constants)
            except CannotPack:
                raise Refused("does not build", "its constants have no form for this point") from None
            files = [write(made.with_suffix(f".{index}"), array) for index, array in enumerate(packed)]
            fresh = [Argument("constant", array.shape, str(array.dtype), file) for array, file in zip(packed, files, strict=True)]
            if known.space.in_place:
                ready = iter(fresh)
                arguments = [next(ready) if each.role == "constant" else each for each in arguments]
            else:
                by_role = {role: [each for each in arguments if each.role == role] for role in ("input", "output")}
                arguments = [*by_role["input"], *fresh, *by_role["output"]]
        function = known.space.apply(request.point).mod["main"]
        shapes = [(tuple(int(extent) for extent in each.shape), str(each.dtype)) for each in function.params]
        assert shapes == [(tuple(each.shape), each.dtype) for each in arguments], f"the kernel takes {shapes}"
        return Candidate(self.compile(function, made), arguments, known.job.precision, known.rounds)

    def compile(self, function: tirx.PrimFunc, made: Path) -> Path:
        """The scheduled function as a library with one function, which is not linked to the runtime: whoever loads it does that."""
        compiled, library = made.with_suffix(".o"), made.with_suffix(".so")
        build_object(function.with_attr("global_symbol", KERNEL), self.codegen, compiled)
        done = subprocess.run(["ld", "-shared", "-o", library, compiled], capture_output=True, text=True)
        compiled.unlink()
        if done.returncode:
            raise Refused("does not build", f"ld: {done.stderr.strip()}")
        return library


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


def start(setup: Setup) -> Callable[[Any], Any]:
    return Builder(setup).handle


def main() -> None:
    serve(start, "does not build")
