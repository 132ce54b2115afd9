"""The whole model with what was decided: does it compute the same, and how fast is it?

A decision was checked on its program alone before. Here all of them work together, on the model's own weights; where an output is spoilt,
the programs whose decision does it are found by halves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import tvm
from tvm import tirx

from schedules.space import Point, Space
from schedules.tuning.database import Database
from schedules.tuning.task import program_key
from stack import peers
from stack.bench import interleave
from stack.compiler import build
from stack.decide import Decisions, Source
from stack.emit.library_sources import NOTHING
from stack.errors import StackError
from stack.graph import Graph
from stack.library import Library, checked_threads
from stack.measure.candidate import wrong
from stack.samples import draw
from stack.tuning.confirm import slower
from targets.runner import Array
from targets.target import Target

SEEDS = (0, 1)
TOLERANCE = {"f32": 1e-3, "bf16": 5e-2}  # of an output's largest value
MOST_DROPPED = 8
TIMES = 3  # that the next best decisions are tried in the model
Outputs = Sequence[Mapping[str, Array]]


@dataclass(frozen=True)
class Checked:
    """`dropped` names the programs whose decision spoilt outputs and was taken back, `slower` those that one made slower in the model;
    `before` and `after` are in `unit`: ms, or of firmware cycles on the board or instructions in QEMU."""

    before: float
    after: float
    difference: float
    reference: str
    dropped: Sequence[str] = ()
    choices_dropped: bool = False
    slower: Sequence[str] = ()
    unit: str = "ms"


class Some(Decisions):
    """The database's decisions for some programs, the default for all others."""

    keep: frozenset[str] = frozenset()

    def decide(self, program: tirx.PrimFunc, space: Space) -> tuple[Point, Source]:
        return super().decide(program, space) if program_key(program) in self.keep else (space.default, "default")


@dataclass
class Check:
    """One model, its graph as it is (`module`) and as it was chosen (`chosen`). With `port` it is timed on the board that is there."""

    graph: Graph
    module: tvm.IRModule
    chosen: tvm.IRModule
    database: Database
    precision: str
    model: Path | None
    shapes: Mapping[str, Sequence[int]]
    port: str = ""
    threads: int = field(default_factory=lambda: checked_threads(None))

    def run(self) -> Checked:
        untuned = self.library(self.module, frozenset())
        inputs = [draw(untuned.inputs, seed) for seed in SEEDS]
        plain = [untuned.run(arrays) for arrays in inputs]
        reference, said = self.reference(untuned, inputs, plain)
        rounds = self.graph.family.container != "c"
        allowed = max(TOLERANCE[self.precision], 4 * worst(plain, reference))

        def spoilt(keep: frozenset[str]) -> float | None:
            """How far the outputs are off with the decisions for `keep`, None where they are right."""
            outputs = [self.library(self.chosen, keep).run(arrays) for arrays in inputs]
            return None if integers_equal(outputs, plain, rounds) and worst(outputs, reference) <= allowed else worst(outputs, reference)

        names = {program_key(f): v.name_hint for v, f in self.chosen.functions.items() if isinstance(f, tirx.PrimFunc)}
        keep, dropped = frozenset(names), list[str]()
        choices_dropped = False
        while spoilt(keep) is not None:
            if not keep or spoilt(frozenset()) is not None:
                choices_dropped, self.chosen = True, self.module
                names = {program_key(f): v.name_hint for v, f in self.chosen.functions.items() if isinstance(f, tirx.PrimFunc)}
                keep = frozenset(names) - set(dropped)
                continue
            guilty = halve(sorted(keep), lambda some: spoilt(frozenset(some)) is not None)
            for key in guilty:
                self.drop(key, "spoils the outputs of a whole model")
                dropped.append(names[key])
            if len(dropped) > MOST_DROPPED:
                keep = frozenset()
        slow = self.drop_slower(keep, names, inputs[0])
        libraries = {"before": untuned, "after": self.library(self.chosen, keep)}
        if self.chosen is not self.module:
            libraries["as it was"] = self.library(self.module, keep)
        took, unit = self.times(libraries, inputs[0])
        if took.get("as it was", took["after"]) < took["after"]:  # what the sum over programs promised is not so
            choices_dropped, took["after"], libraries["after"] = True, took["as it was"], libraries["as it was"]
        before, after, tuned = took["before"], took["after"], libraries["after"]
        difference = worst([tuned.run(arrays) for arrays in inputs], reference)
        return Checked(before, after, difference, said, dropped, choices_dropped, slow, unit)

    def drop_slower(self, keep: frozenset[str], names: Mapping[str, str], arrays: Mapping[str, Array]) -> list[str]:
        """Take back decisions that cost more between their neighbours than the default does, and the next best ones that do."""
        if self.graph.family.container == "c":  # instructions are the same wherever they are counted
            return []
        plain, slow = self.library(self.chosen, frozenset()), list[str]()
        for _ in range(TIMES):
            found = slower(plain, self.library(self.chosen, keep), arrays)
            for key in [key for key in keep if names[key] in found]:
                self.drop(key, "slower in the whole model than its default")
            slow += found
            if not found:
                break
        return sorted(set(slow))

    def library(self, module: tvm.IRModule, keep: frozenset[str]) -> Library:
        decisions = Some(self.graph.target, self.database, precision=self.precision)
        decisions.keep = keep
        family, target = self.graph.family, self.graph.target
        place = emulated(target) if family.container == "c" else {}
        return build(module, self.graph.signature, target, family, decisions, family.rules, NOTHING, self.threads, lambda *_: None, place)

    def reference(self, library: Library, inputs: Sequence[Mapping[str, Array]], plain: Outputs) -> tuple[Outputs, str]:
        """ONNX Runtime's outputs where it is installed and runs the model as the untuned library does, else those of that library."""
        if self.model is None or self.model.suffix != ".onnx":
            return plain, "the untuned library"
        try:
            run = peers.onnxruntime(self.model, self.shapes, self.threads)
            names = [tensor.name for tensor in library.outputs]
            outputs = [dict(zip(names, map(np.asarray, run(arrays)), strict=True)) for arrays in inputs]
        except StackError:
            return plain, "the untuned library"
        except Exception:  # whatever it refuses, a model of another producer or an operator: it is no judge then
            return plain, "the untuned library"
        return outputs, "ONNX Runtime"

    def times(self, libraries: Mapping[str, Library], arrays: Mapping[str, Array]) -> tuple[dict[str, float], str]:
        """What each takes, and the unit: milliseconds, taking turns; of firmware, of which one run says it, cycles or instructions."""
        if self.port:
            try:
                return {name: self.cycles(library, arrays) for name, library in libraries.items()}, "cycles"
            except StackError:  # it does not fit there, or the board is gone: QEMU says as much as it can
                pass
        if self.graph.family.container == "c":
            return {name: sum(library.profile(arrays)) for name, library in libraries.items()}, "instructions"
        runs = {name: partial(outputs_of, library) for name, library in libraries.items()}
        return {name: median(took) for name, took in interleave(runs, arrays).items()}, "ms"

    def cycles(self, library: Library, arrays: Mapping[str, Array]) -> float:
        """Of one run on the board, which is flashed with the library for it."""
        from targets.cortex_m import flash
        from targets.cortex_m.attached import Attached
        from targets.cortex_m.protocol import RESTART

        board = Attached(self.graph.target, self.port)
        try:
            elf = flash.build_firmware(library.folder, library.manifest, board.board, harness=True)
            return float(board.start(elf, library.manifest).run(library.arrays(arrays), RESTART).count)
        finally:
            board.close()

    def drop(self, key: str, why: str) -> None:
        scope = Decisions(self.graph.target).scope
        for precision in dict.fromkeys(("f32", self.precision)):
            record = self.database.best(key, scope, precision)
            if record is not None:
                self.database.drop(record, why)


def emulated(target: Target) -> dict[str, str]:
    """Where firmware for `target` runs without a board: on a machine of QEMU's that has its core, where QEMU does not know the board."""
    return {} if target.board.get("qemu") else {"board": str(target.codegen["mcpu"])}


def outputs_of(library: Library, arrays: Mapping[str, Array]) -> list[Array]:
    return list(library.run(arrays).values())


def halve(keys: Sequence[str], wrong: Callable[[Sequence[str]], bool]) -> list[str]:
    """One of `keys` that is wrong alone, or where halves are only wrong together the smallest part that still is."""
    while len(keys) > 1:
        middle = len(keys) // 2
        half = next((half for half in (keys[:middle], keys[middle:]) if wrong(half)), None)
        if half is None:
            break
        keys = half
    return list(keys)


def integers_equal(outputs: Outputs, plain: Outputs, rounds: bool) -> bool:
    """Integers are computed exactly, whatever the schedule. Only where they are rounded from floats may a few differ by one."""
    pairs = [(ours[name], theirs[name]) for ours, theirs in zip(outputs, plain, strict=True) for name in ours]
    return not any(wrong(one, other, str(one.dtype), "f32", rounds) for one, other in pairs if one.dtype.kind in "iub")


def worst(outputs: Outputs, reference: Outputs) -> float:
    """The largest difference between floats, over the largest value of its output; infinite where one of them is no number."""
    found = 0.0
    for ours, theirs in zip(outputs, reference, strict=True):
        for name, array in ours.items():
            if array.dtype.kind in "iub":
                continue
            one, other = array.astype(np.float64), theirs[name].astype(np.float64).reshape(array.shape)
            finite = np.isfinite(other)
            if not np.array_equal(finite, np.isfinite(one)):
                return float("inf")
            scale = max(float(np.max(np.abs(other[finite]), initial=0.0)), float(np.finfo(np.float32).tiny))
            found = max(found, float(np.max(np.abs(one[finite] - other[finite]), initial=0.0)) / scale)
    return found
