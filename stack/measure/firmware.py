"""The process that builds Cortex-M candidates and counts their instructions in QEMU, or their cycles on a board.

    Prepare in: inputs and right outputs as files     Count in: a Timed out, whose cost are instructions

A candidate is a network of one layer around one point. The harness is compiled once, and weights that were compiled last stay.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx

from schedules.apply import schedule
from schedules.rule import Rule
from schedules.space import Point
from stack.emit.emit import emit
from stack.errors import DoesNotFit, StackError
from stack.frontends.model import Signature
from stack.manifest import parse
from stack.measure.candidate import Array, wrong
from stack.measure.jobs import Jobs, Known, Prepare, rules_of
from stack.measure.native import Timed
from stack.measure.serve import Refused, serve
from targets.cortex_m import flash, linker, qemu, toolchain
from targets.cortex_m.ask import core_of
from targets.cortex_m.binding import binding, identity, tensor_bytes
from targets.cortex_m.build import FIRMWARE, HARNESS, MODEL, flags_of
from targets.cortex_m.protocol import RESTART, Answer, Session
from targets.cortex_m.runner import FirmwareRunner, choose_board
from targets.registry import family_of
from targets.target import Target

NAME = "candidate"
ANSWER_SECONDS = 60.0  # by the clock, for one run in QEMU


@dataclass(frozen=True)
class Setup:
    """What such a process works with: `folder` is for its files, `port` the serial port of a board that it flashes with each candidate."""

    target: Target
    folder: Path
    rules: str = ""
    port: str = ""
    answer_seconds: float = ANSWER_SECONDS


@dataclass(frozen=True)
class Count:
    """Count one point of the job in `folder`."""

    folder: Path
    point: Point


class Counter:
    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.target = setup.target if setup.port else core_of(setup.target)
        self.family = family_of(self.target)
        self.jobs = Jobs(self.target, setup.rules)
        tempfile.tempdir = str(setup.folder)  # QEMU's pipes too: nothing is left elsewhere, however this process ends
        self.work = Path(tempfile.mkdtemp())
        self.harness: list[Path] = []
        self.weights: tuple[str, Path] = ("", Path())

    def handle(self, request: Prepare | Count) -> Timed | None:
        known = self.jobs.know(request.folder)
        if isinstance(request, Count):
            return self.count(known, request.point)
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
        module, names = network(known)
        module = schedule(module, rules, self.target.machine, decide=lambda _program, _space: point)
        if said(module) != dict(point):
            raise Refused("does not build", "its constants have no form for this point")
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            try:
                emit(Signature(NAME, names, ["y"]), module, self.target, self.family, Path(folder), lambda done, total: None)
                manifest = parse(Path(folder))
                runner = self.board(Path(folder), manifest) if self.setup.port else self.emulator(Path(folder), manifest)
            except DoesNotFit as error:
                raise Refused("out of memory", error.what) from None
            except StackError as error:
                raise Refused("out of memory" if "does not fit" in error.what else "does not build", error.what) from None
            return answered(runner, [argument.read() for argument in known.of("input")], manifest)

    def emulator(self, folder: Path, manifest: Mapping[str, Any]) -> FirmwareRunner:
        """A runner whose firmware runs in QEMU already."""
        runner = FirmwareRunner(folder, manifest, choose_board(manifest), timeout=self.setup.answer_seconds)
        link = qemu.Emulator(self.build(runner, folder), runner.board.qemu, self.setup.answer_seconds)
        runner.sessions[False] = open_session(link, manifest)
        return runner

    def board(self, folder: Path, manifest: Mapping[str, Any]) -> FirmwareRunner:
        """A runner for the board, which is flashed with the candidate."""
        for command in flash.plan(folder, manifest, self.target.name, self.setup.port, harness=True):
            toolchain.run(command, "the board is not flashed", self.setup.port)
        return FirmwareRunner(folder, manifest, choose_board(manifest), self.setup.port, self.setup.answer_seconds)

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


def network(known: Known) -> tuple[tvm.IRModule, list[str]]:
    """A Relax main that calls the job's program once, and the names of its inputs."""
    builder = relax.BlockBuilder()
    program = builder.add_func(known.program.without_attr("global_symbol"), "kernel")
    names = [f"x{index}" for index in range(len(known.of("input")))]
    inputs = [relax.Var(name, relax.TensorType(each.shape, each.dtype)) for name, each in zip(names, known.of("input"), strict=True)]
    given, constants = iter(inputs), iter(known.constants)
    (out,) = known.of("output")
    with builder.function("main", inputs):
        result = builder.emit(relax.op.builtin.alloc_tensor(relax.ShapeExpr(out.shape), out.dtype, 0))
        read = [
            relax.const(tvm.runtime.tensor(np.ascontiguousarray(next(constants)))) if each.role == "constant" else next(given)
            for each in known.arguments[:-1]
        ]
        builder.emit(relax.Call(program, [*read, result]))
        builder.emit_func_output(result)
    return builder.get(), names


def said(module: tvm.IRModule) -> dict[str, Any]:
    """The point at which the one program of `module` was scheduled."""
    (program,) = (function for function in module.functions.values() if isinstance(function, tirx.PrimFunc))
    return dict(json.loads(str(program.attrs["stack.decision"])))


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


def start(setup: Setup) -> Callable[[Any], Any]:
    return Counter(setup).handle


def main() -> None:
    serve(start, "does not build")
