"""Tune a model for the machine that it will run on: measure schedules of its programs, and keep the best in a database.

    result = stack.tune("resnet50.onnx", trials=500, database="tuning.db")
    library = stack.compile("resnet50.onnx", database="tuning.db")

Every measurement is kept as it is made. A run that was stopped or killed goes on when it is started again with the same arguments.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import tvm

from relay_passes.choices import Choices
from schedules.tuning.database import Database
from schedules.tuning.measurement import Runner
from schedules.tuning.rounds import Budget
from stack import measure
from stack.databases import to_write
from stack.decide import permitting
from stack.errors import BadInput, StackError
from stack.graph import read
from stack.tuning.check import Check, Checked
from stack.tuning.graph import Variants
from stack.tuning.page import write as write_page
from stack.tuning.progress import Progress, TaskRow
from stack.tuning.run import Run
from targets.registry import family_of, find
from targets.target import Target

TRIALS_A_PROGRAM = 24  # where nobody says how many trials there are
MOST_TRIALS = 1000
INTERRUPTED = "interrupted"
Tell = Callable[[Progress], None]


@dataclass(frozen=True)
class TuneResult:
    """What tuning came to. Costs of programs are in `unit`; `stopped` says why it ended.

    `start` and `latency` are one run of the model as the sum of its programs, with their defaults and with the best found. `checked`
    is what the whole model did when it was run as a library, None where it was not.
    """

    model: str
    target: str
    database: str
    unit: str
    rows: Sequence[TaskRow]
    trials: int
    seconds: float
    stopped: str
    start: float
    latency: float
    choices: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    checked: Checked | None = None

    @property
    def interrupted(self) -> bool:
        return self.stopped == INTERRUPTED


def tune(
    model: str | Path | bytes | onnx.ModelProto,
    target: str = "x86",
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    trials: int | None = None,
    seconds: float | None = None,
    database: str | Path | None = None,
    precision: str = "f32",
    dask: str = "",
    port: str = "",
    seed: int = 0,
    report: str | Path | None = None,
    on_progress: Tell | None = None,
) -> TuneResult:
    """Measure schedules for the programs of a model, on this machine or on a farm, and keep the best for `stack.compile` to use.

    It ends when `trials` candidates were measured or `seconds` are over (without either: 24 trials for each program, 1000 at most), or
    earlier when the gain that is left is not worth more. Ctrl-C ends it too; what was measured stays, and the same call goes on from there.
    `database` is a file or a URL (default: what STACK_DATABASE names, or ~/.local/share/stack/tuning.db). `dask` is the address of a
    scheduler whose workers measure instead of this machine, `port` the serial port of the board that `target` names, which is flashed with
    the candidates and counts their cycles. `precision` "bf16" also tries products in bfloat16. `report`
    names an HTML file to write about it, with 0 trials about what was measured before. `on_progress` is told after each measurement.
    At the end the whole model runs with what was decided, and a decision that spoils its outputs is dropped.
    StackError says what the caller can mend.

        >>> result = stack.tune("add.onnx", shapes={"x": (1, 4)}, trials=2, database="tuning.db")
        >>> library = stack.compile("add.onnx", shapes={"x": (1, 4)}, database="tuning.db")
    """
    budget = checked_budget(trials, seconds)
    tell = on_progress or (lambda progress: None)
    machine = permitting(find(target), precision)
    family = family_of(machine)
    if family.container == "cuda":
        raise StackError(f"nothing measures kernels for '{target}', so that it cannot be tuned", hint="x86 and Cortex-M targets can be")
    if port:
        check_port(machine, dask, port)
    if report is not None and not Path(report).absolute().parent.is_dir():  # better now than after hours
        raise BadInput("there is no folder for the report", at=str(Path(report).parent), hint="make it, or name another file")
    store = Database.open(to_write(database))
    try:
        tell(Progress("import"))
        graph = read(model, machine, family, shapes or {})
        variants = Variants(graph, target, precision)
        if budget == Budget():
            tunable = sum(work.task.space.size > 1 for work in variants.base.values())
            budget = Budget(min(MOST_TRIALS, TRIALS_A_PROGRAM * max(tunable, 1)))
        run = Run(variants, store, precision, budget, seed, tell, on_board=bool(port))
        stopped = search(run, lambda: measure.open_runner(target, dask=dask, port=port))
        choices = run.choose()
        checked = None
        if stopped != INTERRUPTED and budget.trials != 0:
            tell(run.progress("check"))
            file = Path(model) if isinstance(model, str | Path) else None
            check = Check(graph, variants.module, chosen_module(variants, choices), store, precision, file, shapes or {}, port)
            try:
                checked = check.run()
                run.finish(stopped)
            except KeyboardInterrupt:
                stopped = INTERRUPTED
            if checked and checked.choices_dropped:
                choices = run.keep_choices({})
        last = run.progress("check")
        name = str(model) if isinstance(model, str | Path) else graph.signature.name
        if report is not None:
            write_page(Path(report), run.about(Path(name).name, target, choices))
        return TuneResult(
            model=name,
            target=target,
            database=store.name,
            unit=run.unit,
            rows=last.rows,
            trials=last.trials,
            seconds=last.seconds,
            stopped=stopped,
            start=run.start(),
            latency=run.latency(choices),
            choices=choices,
            failures=last.failures,
            checked=checked,
        )
    finally:
        store.close()


def search(run: Run, open_runner: Callable[[], Runner]) -> str:
    """Measure until the budget is used; why it ended. No runner is opened where nothing is to be measured."""
    if run.budget.trials == 0:
        return "nothing was to be measured"
    runner = open_runner()
    try:
        return run.search(runner)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        runner.close()
        run.close()


def chosen_module(variants: Variants, choices: Mapping[str, str]) -> tvm.IRModule:
    """The graph's programs with those choices."""
    return variants.graph.programs(Choices(choices)) if choices else variants.module


def check_port(machine: Target, dask: str, port: str) -> None:
    """StackError where nothing can be measured at that port, before a model is read for nothing."""
    from targets.cortex_m.attached import Attached

    if dask:
        raise BadInput("a board is measured where it is attached, not over a cluster", hint="give one of the port and the Dask scheduler")
    Attached(machine, port).close()


def checked_budget(trials: int | None, seconds: float | None) -> Budget:
    if trials is not None and (isinstance(trials, bool) or not isinstance(trials, int) or trials < 0):
        raise BadInput(f"trials must be a whole number, not {trials!r}", hint="0 measures nothing: it shows what the database has")
    if seconds is not None and not seconds > 0:
        raise BadInput(f"seconds must be more than 0, not {seconds!r}")
    return Budget(trials, seconds)
