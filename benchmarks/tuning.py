"""Tuning beside TVM's own MetaSchedule: candidates a minute, trials until its best is reached, and the latency in the end.

    python benchmarks/tuning.py --against metaschedule [--trials 64] [--programs conv3x3 matmul] [--json tuning.json]

Both tune the same four TensorIR programs, which our graph passes make of small models, on the same machine in the same run: a convolution
of 3x3 and one of 1x1, a depthwise convolution (between two of 1x1, which are not tuned) and a product with constant weights, all with
bias and rectifier. Ours begins with an empty database, without the decisions that ship; MetaSchedule with its stock builder, runner and
cost model, but with two minutes instead of half a one for a build and for a run, of which its processes need a good part to import TVM.

The clock of a tuner runs from the call to its last measurement. In the end all kernels are timed by our harness, one thread, taking turns;
MetaSchedule's best is compiled by TVM's pipeline and by ours, and the quicker of the two counts for it.
"""

import argparse
import json
import logging
import math
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np
import onnx
import tvm
from onnx import helper, numpy_helper
from rich.console import Console
from rich.table import Table
from tvm import tirx
from tvm.s_tir import meta_schedule

from schedules.space import Point
from schedules.tuning.database import Database
from schedules.tuning.jobs import Work
from schedules.tuning.rounds import Budget
from stack import measure
from stack.graph import read
from stack.measure.builder import KERNEL, Build, Builder, Setup
from stack.measure.candidate import Candidate
from stack.measure.jobs import Known, Prepare
from stack.measure.local import build_runtime
from stack.measure.native import Environment, Timer
from stack.tuning.graph import Variants
from stack.tuning.run import Run
from targets.registry import family_of, find

TARGET = "x86"
PATIENCE = 120  # seconds for a build and for a run
REPEATS = 15


def layer(kind: str, x: Sequence[int], weights: Sequence[int], between: bool = False, **attributes: Any) -> onnx.ModelProto:
    """`kind` with constant weights, then bias and rectifier. `between` puts a 1x1 convolution before and behind, as depthwise ones have."""
    rng = np.random.default_rng(0)
    fan_in = int(np.prod(weights[1:])) if kind == "Conv" else weights[0]
    filters = weights[0] if kind == "Conv" else weights[1]
    arrays = {
        "w": rng.standard_normal(weights).astype(np.float32) / math.sqrt(fan_in),
        "b": rng.standard_normal((filters, 1, 1) if kind == "Conv" else (filters,)).astype(np.float32),
    }
    nodes = [
        helper.make_node(kind, ["x", "w"], ["product"], **attributes),
        helper.make_node("Add", ["product", "b"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["y"]),
    ]
    if between:
        arrays["mix"] = rng.standard_normal((filters, filters, 1, 1)).astype(np.float32) / math.sqrt(filters)
        before, behind = helper.make_node("Conv", ["x", "mix"], ["mixed"]), helper.make_node("Conv", ["own", "mix"], ["y"])
        nodes[0].input[0], nodes[-1].output[0] = "mixed", "own"
        nodes = [before, *nodes, behind]
    shape = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", shape, x)],
        [helper.make_tensor_value_info("y", shape, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


# by name: the rule that schedules the program, and a model that has it
PROGRAMS: dict[str, tuple[str, Callable[[], onnx.ModelProto]]] = {
    "conv3x3": ("conv2d", lambda: layer("Conv", (1, 64, 56, 56), (64, 64, 3, 3), pads=[1, 1, 1, 1])),
    "conv1x1": ("conv2d", lambda: layer("Conv", (1, 256, 28, 28), (128, 256, 1, 1))),
    "depthwise": ("depthwise", lambda: layer("Conv", (1, 96, 56, 56), (96, 1, 3, 3), between=True, pads=[1, 1, 1, 1], group=96)),
    "matmul": ("packed_matmul", lambda: layer("MatMul", (128, 384), (384, 1536))),
}


@dataclass(frozen=True)
class Outcome:
    """What both tuners did with one program. Times of kernels are in microseconds."""

    program: str
    trials: int
    our_seconds: float
    our_candidates: int
    their_seconds: float
    their_candidates: int
    their_failures: int
    our_us: float
    their_us: float
    trials_to_match: int

    @property
    def rate_ratio(self) -> float:
        """Candidates a minute, ours over theirs."""
        return (self.our_candidates / self.our_seconds) / (self.their_candidates / self.their_seconds)


def ours(name: str, trials: int, folder: Path) -> tuple[Work, list[Point], float]:
    """Tune one program; its points in the order in which they were measured, and the seconds."""
    rule, make = PROGRAMS[name]
    target = find(TARGET)
    variants = Variants(read(make(), target, family_of(target), {}), TARGET, "f32")
    database = Database.open(folder / "ours.db")
    run = Run(variants, database, "f32", Budget(trials=trials), seed=0, tell=lambda progress: None)
    (chosen,) = [state for state in run.states.values() if state.work.task.space.rule == rule]
    run.states = {chosen.key: chosen}
    started = time.perf_counter()
    runner = measure.open_runner(TARGET)
    run.search(runner)
    seconds = time.perf_counter() - started
    runner.close()
    points = [record.point for record in database.records(chosen.key) if record.failure is None]
    database.close()
    return chosen.work, points, seconds


def theirs(program: tirx.PrimFunc, trials: int, folder: Path) -> tuple[tirx.PrimFunc | None, int, int, float]:
    """MetaSchedule's best schedule, how many candidates it measured, how many of them failed, and the seconds."""
    logging.getLogger("tvm.s_tir.meta_schedule").setLevel(logging.ERROR)
    module = tvm.IRModule({"main": program.with_attr("global_symbol", "main")})
    target = tvm.target.Target({**dict(find(TARGET).codegen), "num-cores": 1})
    started = time.perf_counter()
    database = meta_schedule.tune_tir(
        module,
        target,
        str(folder / "theirs"),
        max_trials_global=trials,
        builder=meta_schedule.builder.LocalBuilder(timeout_sec=PATIENCE),
        runner=meta_schedule.runner.LocalRunner(timeout_sec=PATIENCE),
    )
    seconds = time.perf_counter() - started
    measured = [[float(each) for each in record.run_secs] for record in database.get_all_tuning_records()]
    failed = sum(max(times) >= 1e9 for times in measured)  # what it writes for one that did not run
    schedule = meta_schedule.tir_integration.compile_tir(database, module, target)
    return (schedule.mod["main"] if schedule is not None else None), len(measured), failed, seconds


class Harness:
    """Builds kernels of one program and times them, taking turns."""

    def __init__(self, work: Work, folder: Path) -> None:
        target = find(TARGET)
        self.environment = Environment(build_runtime(folder / "runtime.so"), threads=1, private=0)
        self.builder = Builder(Setup(target, self.environment))
        self.timer = Timer(self.environment)
        self.folder = folder / "job"
        self.folder.mkdir()
        (self.folder / "job").write_bytes(pickle.dumps(work.job))
        self.builder.handle([Prepare(self.folder)])
        self.known: Known = self.builder.jobs.know(self.folder)
        self.count = 0

    def build(self, point: Point) -> Callable[[], float]:
        """One of our points."""
        self.count += 1
        (candidate,) = self.builder.candidates([self.builder.schedule(self.known, Build(self.folder, point, f"ours{self.count}"))])
        return lambda: self.timer.time((candidate, math.inf)).cost

    def build_theirs(self, scheduled: tirx.PrimFunc) -> list[Callable[[], float]]:
        """Their schedule, compiled by our pipeline and by TVM's."""
        self.count += 1
        library = self.builder.compile([scheduled], self.folder / f"theirs{self.count}")
        candidate = Candidate(library, KERNEL, self.known.arguments, "f32", False)
        target = tvm.target.Target({**dict(find(TARGET).codegen), "num-cores": 1})
        compiled = tvm.compile(tvm.IRModule({"main": scheduled.with_attr("global_symbol", "main")}), target)
        arrays = [tvm.runtime.tensor(np.array(argument.read())) for argument in self.known.arguments]
        evaluator = compiled.mod.time_evaluator("main", tvm.cpu(), number=10, repeat=5)
        return [lambda: self.timer.time((candidate, math.inf)).cost, lambda: median(evaluator(*arrays).results)]


def compare(name: str, trials: int, folder: Path) -> Outcome:
    """Tune one program with both, then time what they found."""
    work, points, our_seconds = ours(name, trials, folder)
    scheduled, measured, failed, their_seconds = theirs(work.task.program, trials, folder)
    assert scheduled is not None, "MetaSchedule found no schedule that runs"
    harness = Harness(work, folder)
    theirs_timed = harness.build_theirs(scheduled)
    timed = [harness.build(point) for point in points]
    their_best = math.inf
    ours_best = [math.inf] * len(timed)
    for _ in range(REPEATS):  # the least of medians: whatever else the machine does only adds
        their_best = min(their_best, *(kernel() for kernel in theirs_timed))
        ours_best = [min(best, kernel()) for best, kernel in zip(ours_best, timed, strict=True)]
    reached = next((trial for trial, cost in enumerate(ours_best, 1) if cost <= their_best), trials + 1)
    return Outcome(name, trials, our_seconds, len(points), their_seconds, measured, failed, 1e6 * min(ours_best), 1e6 * their_best, reached)


def summary(outcomes: Sequence[Outcome]) -> dict[str, float]:
    return {
        "candidates_per_minute_ratio": geometric_mean(outcome.rate_ratio for outcome in outcomes),
        "trials_to_match_64": geometric_mean(outcome.trials_to_match for outcome in outcomes),
        "latency_ratio": geometric_mean(outcome.our_us / outcome.their_us for outcome in outcomes),
    }


def table(outcomes: Sequence[Outcome]) -> Table:
    view = Table(title="tuning beside TVM MetaSchedule, one thread")
    for title in ("program", "ours, cand./min", "theirs", "ratio", "trials to its best", "ours, us", "theirs, us", "ratio", "its failures"):
        view.add_column(title, justify="left" if title == "program" else "right")
    for outcome in outcomes:
        view.add_row(
            outcome.program,
            f"{60 * outcome.our_candidates / outcome.our_seconds:.0f}",
            f"{60 * outcome.their_candidates / outcome.their_seconds:.1f}",
            f"{outcome.rate_ratio:.1f}",
            str(outcome.trials_to_match),
            f"{outcome.our_us:.1f}",
            f"{outcome.their_us:.1f}",
            f"{outcome.our_us / outcome.their_us:.2f}",
            str(outcome.their_failures),
        )
    return view


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", choices=["metaschedule"], required=True)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--programs", nargs="+", choices=list(PROGRAMS), default=list(PROGRAMS))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    outcomes = []
    for name in options.programs:
        folder = Path(tempfile.mkdtemp(prefix="stack-tuning-"))
        try:
            outcomes.append(compare(name, options.trials, folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        Console(width=160).print(table(outcomes[-1:]))
    Console(width=160).print(table(outcomes))
    result = {"trials": options.trials, "programs": [asdict(outcome) for outcome in outcomes], "summary": summary(outcomes)}
    print(json.dumps(result["summary"]))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
