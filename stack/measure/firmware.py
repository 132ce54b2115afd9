"""The process that builds Cortex-M candidates and counts their instructions in QEMU, or builds them for a board.

    Prepare in: inputs and right outputs as files     Count in: a Timed out, whose cost are instructions     Assemble in: a Firmware out

A candidate is a network of one layer around one point. The harness is compiled once, and weights that were compiled last stay. For a board
several points of a program are layers side by side, so that it is flashed once for all of them.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx

from schedules.apply import schedule
from schedules.rule import Rule
from schedules.space import Point, Space
from stack.emit.emit import emit
from stack.errors import DoesNotFit, StackError
from stack.frontends.model import Signature
from stack.manifest import parse
from stack.measure.candidate import Argument, Array, wrong
from stack.measure.jobs import Jobs, Known, Prepare, rules_of
from stack.measure.native import Timed
from stack.measure.serve import Handler, Refused, one_by_one, serve
from targets.cortex_m import flash, linker, qemu, toolchain
from targets.cortex_m.ask import core_of
from targets.cortex_m.binding import binding, identity, tensor_bytes
from targets.cortex_m.board import board_of
from targets.cortex_m.build import FIRMWARE, HARNESS, MODEL, flags_of
from targets.cortex_m.protocol import RESTART, Answer, Session
from targets.cortex_m.runner import FirmwareRunner, choose_board
from targets.registry import family_of
from targets.target import Target

NAME, KERNEL = "candidate", "kernel"
NUMBER = "stack.candidate"  # an attribute that tells the points of one network apart
ANSWER_SECONDS = 60.0  # by the clock, for one run in QEMU


@dataclass(frozen=True)
class Setup:
    """What such a process works with: `folder` is for its files."""

    target: Target
    folder: Path
    rules: str = ""
    answer_seconds: float = ANSWER_SECONDS


@dataclass(frozen=True)
class Count:
    """Count one point of the job in `folder`."""

    folder: Path
    point: Point


@dataclass(frozen=True)
class Assemble:
    """Build one firmware for the board with all `points` of the job in `folder`."""

    folder: Path
    points: Sequence[Point]


@dataclass(frozen=True)
class Firmware:
    """What a board is flashed with. Its n-th output and, behind the step of the beginning, n-th step are those of the n-th point;
    `output` has what is right."""

    folder: Path
    elf: Path
    manifest: Mapping[str, Any] = field(repr=False)
    inputs: Sequence[Argument]
    output: Argument
    precision: str
    rounds: bool


class Counter:
    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.target = core_of(setup.target)
        self.family = family_of(self.target)
        self.jobs = Jobs(self.target, setup.rules)
        tempfile.tempdir = str(setup.folder)  # QEMU's pipes too: nothing is left elsewhere, however this process ends
        self.work = Path(tempfile.mkdtemp())
        self.harness: list[Path] = []
        self.weights: tuple[str, Path] = ("", Path())

    def handle(self, request: Prepare | Count | Assemble) -> Timed | Firmware | None:
        known = self.jobs.know(request.folder)
        if isinstance(request, Count):
            return self.count(known, request.point)
        if isinstance(request, Assemble):
            return self.assemble(known, request.points)
        known.write_inputs()
        plain = rules_of(self.target, "")[-1]
        space = plain(known.program, self.target.machine)
        assert space is not None, "the last rule takes every program"
        outputs, _ = self.run(known, [plain], space.default)
        known.write_outputs(outputs)
        return None

    def count(self, known: Known, point: Point) -> Timed:
        outputs, cost = self.run(known, self.jobs.rules, point)
        for output, argument in zip(outputs, known.of("output"), strict=True):
            if difference := wrong(output, argument.read(), argument.dtype, known.job.precision, known.rounds):
                raise Refused("wrong result", difference)
        return Timed(float(cost), 0.0, True)

    def run(self, known: Known, rules: Sequence[Rule], point: Point) -> tuple[list[Array], int]:
        """The outputs of the program at `point` of its space by `rules`, and what one run costs."""
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            with refusing():
                manifest = self.write(known, rules, [point], Path(folder), stepwise=False)
                runner = self.emulator(Path(folder), manifest)
            return answered(runner, [argument.read() for argument in known.of("input")], manifest)

    def assemble(self, known: Known, points: Sequence[Point]) -> Firmware:
        """The firmware for the board; whoever gets it removes its folder."""
        folder = Path(tempfile.mkdtemp(dir=self.setup.folder))
        try:
            with refusing():
                manifest = self.write(known, self.jobs.rules, points, folder, stepwise=True)
                elf = flash.build_firmware(folder, manifest, board_of(self.setup.target), harness=True)
        except BaseException:
            shutil.rmtree(folder)
            raise
        (output,) = known.of("output")
        return Firmware(folder, elf, manifest, known.of("input"), output, known.job.precision, known.rounds)

    def write(self, known: Known, rules: Sequence[Rule], points: Sequence[Point], folder: Path, stepwise: bool) -> Mapping[str, Any]:
        """The C project of a network of `points`, for QEMU or `stepwise` for the board, and its manifest."""
        target = self.setup.target if stepwise else self.target
        module, names = network(known, len(points), stepwise)
        module = schedule(module, rules, target.machine, decide=lambda program, space: chosen(program, space, points))
        if [said(module, number) for number in range(len(points))] != [dict(point) for point in points]:
            raise Refused("does not build", "its constants have no form for this point")
        titles = [f"y{number}" for number in range(len(points))] + ["first"] * stepwise
        emit(Signature(NAME, names, titles), module, target, self.family, folder, lambda done, total: None)
        return parse(folder)

    def emulator(self, folder: Path, manifest: Mapping[str, Any]) -> FirmwareRunner:
        """A runner whose firmware runs in QEMU already."""
        runner = FirmwareRunner(folder, manifest, choose_board(manifest), timeout=self.setup.answer_seconds)
        link = qemu.Emulator(self.build(runner, folder), runner.board.qemu, self.setup.answer_seconds)
        runner.sessions[False] = open_session(link, manifest)
        return runner

    def build(self, runner: FirmwareRunner, folder: Path) -> Path:
        """What `build_harness` makes, with the parts that are compiled already."""
        board, manifest, core = runner.board, runner.manifest, flags_of(runner.manifest)
        into = self.work
        firmware = [*core, *toolchain.FIRMWARE, f"-I{FIRMWARE}"]
        if not self.harness:
            sources = [FIRMWARE / name for name in (*HARNESS, "link_semihosting.c")]
            self.harness = [toolchain.compile_source(source, into, firmware) for source in sources]
        (folder / "binding.c").write_text(binding(manifest, board))
        objects = [toolchain.compile_source(folder / "binding.c", folder, [*firmware, f"-I{folder}"])]
        model = [*core, *toolchain.OPTIMISE, *toolchain.PLAIN, f"-I{folder}"]
        code, weights = MODEL
        objects.append(toolchain.compile_source(folder / code, folder, model))
        if (text := (folder / weights).read_text()) != self.weights[0]:
            self.weights = text, toolchain.compile_source(folder / weights, into, model)
        script = folder / "board.ld"
        script.write_text(linker.script(board.name, board.memory, ""))
        return toolchain.link([*self.harness, *objects, self.weights[1]], script, folder / f"{NAME}.elf", core)


@contextmanager
def refusing() -> Iterator[None]:
    """What users would be told of a model is the failure of a candidate here."""
    try:
        yield
    except DoesNotFit as error:
        raise Refused("out of memory", error.what) from None
    except StackError as error:
        raise Refused("out of memory" if "does not fit" in error.what else "does not build", error.what) from None


def beginning() -> tirx.PrimFunc:
    """Does next to nothing, so that what a network does before its first layer is counted as no point's."""
    return te.create_prim_func([te.compute((1,), lambda _: tirx.const(0, "int8"))]).without_attr("global_symbol")


def chosen(program: tirx.PrimFunc, space: Space, points: Sequence[Point]) -> Point:
    return points[int(program.attrs[NUMBER])] if program.attrs and NUMBER in program.attrs else space.default


def network(known: Known, count: int, stepwise: bool) -> tuple[tvm.IRModule, list[str]]:
    """A Relax main that calls `count` copies of the job's program, each on the same inputs, and the names of those.

    Where its steps will be counted it begins with `beginning`, whose output is the last.
    """
    builder = relax.BlockBuilder()
    nameless = known.program.without_attr("global_symbol")
    programs = [builder.add_func(nameless.with_attr(NUMBER, number), f"{KERNEL}{number}") for number in range(count)]
    names = [f"x{index}" for index in range(len(known.of("input")))]
    inputs = [relax.Var(name, relax.TensorType(each.shape, each.dtype)) for name, each in zip(names, known.of("input"), strict=True)]
    given, constants = iter(inputs), iter(known.constants)
    (out,) = known.of("output")
    with builder.function("main", inputs):
        read = [
            relax.const(tvm.runtime.tensor(np.ascontiguousarray(next(constants)))) if each.role == "constant" else next(given)
            for each in known.arguments[:-1]
        ]
        results = []
        if stepwise:
            first = builder.emit(relax.op.builtin.alloc_tensor(relax.ShapeExpr((1,)), "int8", 0))
            builder.emit(relax.Call(builder.add_func(beginning(), "beginning"), [first]))
        for program in programs:
            results.append(builder.emit(relax.op.builtin.alloc_tensor(relax.ShapeExpr(out.shape), out.dtype, 0)))
            builder.emit(relax.Call(program, [*read, results[-1]]))
        builder.emit_func_output(relax.Tuple([*results, first]) if stepwise else results[0])
    return builder.get(), names


def said(module: tvm.IRModule, number: int) -> dict[str, Any]:
    """The point at which one of the programs of `module` was scheduled."""
    return dict(json.loads(str(module[f"{KERNEL}{number}"].attrs["stack.decision"])))


def open_session(link: qemu.Emulator, manifest: Mapping[str, Any]) -> Session:
    try:
        sizes = [sum(map(tensor_bytes, manifest[kind])) for kind in ("inputs", "outputs")]
        return Session(link, len(manifest["operators"]), sizes[0], sizes[1], identity(manifest))
    except StackError as error:
        link.close()
        raise Refused("crashed", error.what) from None


def answered(runner: FirmwareRunner, inputs: Sequence[Array], manifest: Mapping[str, Any]) -> tuple[list[Array], int]:
    """The outputs of one run, and what it cost."""
    outputs = [np.empty(entry["shape"], entry["dtype"]) for entry in manifest["outputs"]]
    try:
        with runner.use(False) as session:
            answer: Answer = session.run(inputs, RESTART)
            runner.fill(outputs, answer)
    except AssertionError as error:  # it wrote where it may not
        raise Refused("wrong result", str(error)) from None
    except StackError as error:
        raise Refused("timed out" if "no answer" in error.what else "crashed", error.what) from None
    finally:
        runner.close()
    return outputs, runner.count(answer.count)


def start(setup: Setup) -> Handler:
    return one_by_one(Counter(setup).handle, "does not build")


def main(connection: Connection) -> None:
    serve(connection, start)
