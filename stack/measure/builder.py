"""The process that builds x86 candidates. TVM is imported once, and programs and constants of recent jobs stay.

Prepare in: inputs, constants and right outputs as files     Build in: a Candidate out

Builds that are asked for at once are compiled at once: LLVM takes 16 ms before it sees the first of them.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import tvm
from tvm import tirx

from schedules.cpu.fallback import fallback
from schedules.space import CannotPack, Point
from stack.emit.kernels import build_together
from stack.measure.candidate import Argument, Candidate, storage
from stack.measure.jobs import Jobs, Known, Prepare, write
from stack.measure.native import MOST, Environment, Timer
from stack.measure.serve import Answer, Handler, Refused, answer, serve
from targets.target import Target

KERNEL, FAILED = "candidate", "does not build"


@dataclass(frozen=True)
class Setup:
    """What a building process works with. `rules` names others than the family's, as "module:attribute"."""

    target: Target
    environment: Environment
    rules: str = ""


@dataclass(frozen=True)
class Build:
    """Build one point of the job in `folder`; `made` begins the names of the files."""

    folder: Path
    point: Point
    made: str


class Builder:
    def __init__(self, setup: Setup) -> None:
        self.setup, self.jobs = setup, Jobs(setup.target, setup.rules)
        self.codegen = tvm.target.Target(dict(setup.target.codegen))

    def handle(self, requests: Sequence[Prepare | Build]) -> list[Answer]:
        answers = [answer(self.take, request, FAILED) for request in requests]
        scheduled = [each.value for each in answers if isinstance(each.value, Scheduled)]
        if len(scheduled) > 1 and not (built := answer(self.candidates, scheduled, FAILED)).failure:
            return [Answer(next(made)) if isinstance(each.value, Scheduled) else each for made in [iter(built.value)] for each in answers]
        return [
            answer(lambda one: self.candidates([one])[0], each.value, FAILED) if isinstance(each.value, Scheduled) else each
            for each in answers
        ]

    def take(self, request: Prepare | Build) -> "Scheduled | None":
        known = self.jobs.know(request.folder)
        if isinstance(request, Build):
            return self.schedule(known, request)
        self.prepare(known, request.folder)
        return None

    def prepare(self, known: Known, folder: Path) -> None:
        """Write the job's inputs and constants, and what its program computes from them by the plainest schedule there is."""
        known.write_inputs()
        plain = fallback(known.program, self.setup.target.machine)
        assert plain is not None
        library = self.compile([plain.apply(plain.default).mod["main"]], folder / "reference")
        known.write_outputs(Timer(self.setup.environment).run(library, KERNEL, known.arguments))
        library.unlink()

    def schedule(self, known: Known, request: Build) -> "Scheduled":
        made, point = request.folder / request.made, request.point
        arguments = self.pack(known, point, made) if known.space.pack else known.arguments
        function = known.space.apply(point).mod["main"]
        takes = [(tuple(int(extent) for extent in each.shape), str(each.dtype)) for each in function.params]
        given = [(each.shape, storage(each.dtype)) for each in arguments]  # bfloat16 constants are packed as the bits they are
        assert [(shape, storage(dtype)) for shape, dtype in takes] == given, f"the kernel takes {takes}"
        assert len(takes) <= MOST, f"the kernel takes {len(takes)} arguments, and the measuring process passes {MOST}"
        return Scheduled(function, arguments, made, known)

    def candidates(self, scheduled: Sequence["Scheduled"]) -> list[Candidate]:
        """All of them in one library, which each has under a name of its own: whoever is done with one may remove that."""
        library = self.compile([each.function for each in scheduled], scheduled[0].made)
        made = []
        for number, each in enumerate(scheduled):
            own = each.made.with_suffix(".so")
            if number:
                own.hardlink_to(library)
            made.append(Candidate(own, f"{KERNEL}{number or ''}", each.arguments, each.known.job.precision, each.known.rounds))
        return made

    def pack(self, known: Known, point: Point, made: Path) -> list[Argument]:
        """The arguments at `point`, with its packed constants in files."""
        assert known.space.pack
        try:
            packed = known.space.pack(point, known.constants)
        except CannotPack:
            raise Refused(FAILED, "its constants have no form for this point") from None
        files = [write(made.with_suffix(f".{index}"), array) for index, array in enumerate(packed)]
        fresh = [Argument("constant", array.shape, str(array.dtype), file) for array, file in zip(packed, files, strict=True)]
        if not known.space.in_place:
            return [*known.of("input"), *fresh, *known.of("output")]
        ready = iter(fresh)
        return [next(ready) if each.role == "constant" else each for each in known.arguments]

    def compile(self, functions: Sequence[tirx.PrimFunc], made: Path) -> Path:
        """A library with `candidate`, `candidate1` and so on. It is not linked to the runtime: whoever loads it does that."""
        compiled, library = made.with_suffix(".o"), made.with_suffix(".so")
        named = [function.with_attr("global_symbol", f"{KERNEL}{number or ''}") for number, function in enumerate(functions)]
        build_together(named, self.codegen, compiled)
        done = subprocess.run(["ld", "-shared", "-o", library, compiled], capture_output=True, text=True)
        compiled.unlink()
        if done.returncode:
            raise Refused(FAILED, f"ld: {done.stderr.strip()}")
        return library


@dataclass(frozen=True)
class Scheduled:
    """A point of a job, ready to be compiled; `made` begins the names of its files."""

    function: tirx.PrimFunc
    arguments: Sequence[Argument]
    made: Path
    known: Known


def start(setup: Setup) -> Handler:
    return Builder(setup).handle


def main(connection: Connection) -> None:
    serve(connection, start)
