"""What a run of tuning shows: a live table in a terminal, a line every few seconds elsewhere, and the result.

with display() as on_progress:
    result = tune("resnet50.onnx", on_progress=on_progress)
show_result(result, "stackc tune resnet50.onnx")
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stack.report import console, quiet_stderr
from stack.tuning.progress import Progress, TaskRow

if TYPE_CHECKING:  # this imports TVM
    from stack.tuning.tune import TuneResult

STAGES = {"import": "import the model", "measure": "measure", "graph": "choose a way through the graph", "check": "check the whole model"}
LINE_EVERY = 5.0  # seconds, where there is no terminal
ALL_COLUMNS = 110  # characters that a table with all columns takes
SOME_COLUMNS, FEW_COLUMNS = 70, 50


@contextmanager
def display() -> Iterator[Callable[[Progress], None]]:
    """Yields what is to be told of progress. All of it goes to stderr; a live table has a screen of its own."""
    with quiet_stderr() as stderr:
        screen = Console(file=stderr, highlight=False, markup=False)
        if not stderr.isatty():
            yield Lines(screen)
            return
        with Live(console=screen, screen=True, auto_refresh=False) as live:  # a screen of its own, so that resizing leaves nothing behind
            drawn = [0.0]

            def draw(progress: Progress) -> None:
                if time.monotonic() - drawn[0] > 0.2 or progress.stage != "measure":
                    drawn[0] = time.monotonic()
                    live.update(picture(progress, screen.width, screen.height), refresh=True)

            yield draw


class Lines:
    """One line for each stage, and every few seconds."""

    def __init__(self, screen: Console) -> None:
        self.screen, self.last, self.stage = screen, 0.0, ""

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage == self.stage and now - self.last < LINE_EVERY:
            return
        self.last, self.stage = now, progress.stage
        text = headline(progress) if progress.trials or progress.stage == "measure" else STAGES[progress.stage]
        self.screen.print(text, soft_wrap=True)


def picture(progress: Progress, width: int, height: int) -> Group:
    """The table of tasks, as many as fit, and the totals."""
    rows = sorted(progress.rows, key=lambda row: (-row.cost, -row.trials))
    lines = sum(len(text) // max(width, 1) + 1 for text in (headline(progress), footline(progress)))
    shown = rows[: max(3, height - lines - 4)]  # less the heading, what is hidden, and words that wrap early
    made = table(shown, progress, width)
    hidden = len(rows) - len(shown)
    parts: list[Table | Text] = [made] if rows else []
    if hidden > 0:
        parts.append(
            Text(f"... and {hidden} more programs, {share(sum(row.cost for row in rows[len(shown) :]), progress.latency)} of the time")
        )
    return Group(*parts, Text(headline(progress)), Text(footline(progress)))


def table(rows: list[TaskRow], progress: Progress, width: int) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    made.add_column("program", no_wrap=True, overflow="ellipsis", min_width=10, ratio=1)
    wide, some = width >= ALL_COLUMNS, width >= SOME_COLUMNS
    titles = (
        ["calls"] * some
        + ["default"] * wide
        + ["best"]
        + ["now"] * (width >= FEW_COLUMNS)
        + ["roofline"] * some
        + ["points"] * wide
        + ["trials", "share"]
    )
    for title in titles:
        made.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = {
            "calls": str(row.calls) if row.calls else "other way",
            "default": cost(row.default, progress.unit),
            "best": cost(row.best, progress.unit),
            "now": cost(row.now, progress.unit) if row.trials else "",
            "roofline": "" if row.roofline is None else f"{row.roofline:.0%}",
            "points": f"{row.points:,}",
            "trials": str(row.trials) if row.trials else "",
            "share": share(row.cost, progress.latency) if row.calls else "",
        }
        made.add_row(row.name, *(cells[title] for title in titles))
    return made


def headline(progress: Progress) -> str:
    """trials 120/500, 96 a minute, 4 min left: 8.31 ms of 9.44 ms"""
    most = f"/{progress.most_trials}" if progress.most_trials is not None else ""
    parts = [f"{STAGES[progress.stage]}: trials {progress.trials}{most}"]
    if progress.per_minute:
        parts.append(f"{progress.per_minute:.0f} a minute")
    if progress.left is not None and progress.stage == "measure":
        parts.append(f"{clock(progress.left)} left at most")
    if progress.latency:
        gain = f" ({progress.start / progress.latency:.2f}x)" if progress.start else ""
        now, start = (cost(value, progress.unit) for value in (progress.latency, progress.start))
        parts.append(f"sum of all programs {now}, defaults {start}{counted(progress.unit)}{gain}")
    return ", ".join(parts)


def footline(progress: Progress) -> str:
    said = f"failures: {failures(progress.failures)}" if progress.failures else "no failures"
    resumed = "; goes on from an earlier run" if progress.resumed else ""
    return f"{said}{resumed}; Ctrl-C stops, and what was measured stays"


def failures(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""


def cost(value: float | None, unit: str) -> str:
    """A cost as people write it."""
    if value is None:
        return "-"
    if unit != "seconds":
        return f"{value:,.0f}"
    for size, name in ((1.0, "s"), (1e-3, "ms")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value * 1e6:.3g} us"


def counted(unit: str) -> str:
    """What numbers count that have no unit of their own."""
    return "" if unit == "seconds" else f" {unit}"


def clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def show_result(result: "TuneResult", command: str) -> None:
    """What changed, what the whole model says to it, and what to type next."""
    out = console()
    rows = sorted((row for row in result.rows if row.calls), key=lambda row: -row.cost)
    better = [row for row in rows if row.default and row.best and row.best < row.default]
    made = table(better[:12], Progress("check", result.unit, result.rows), out.width)
    if better:
        out.print(made)
    out.print(f"stopped    {result.stopped}, after {result.trials} trials in {clock(result.seconds)}")
    out.print(f"programs   {len(rows)}, {len(better)} of them quicker than their default")
    if result.latency:
        now, start = (cost(value, result.unit) for value in (result.latency, result.start))
        out.print(f"sum        {now}, with the defaults {start}{counted(result.unit)}")
    if result.failures:
        out.print(f"failures   {failures(result.failures)}")
    if result.choices:
        out.print(f"graph      {', '.join(f'{place}: {option}' for place, option in result.choices.items())}")
    if result.checked:
        show_check(out, result)
    out.print(f"database   {result.database}")
    if result.interrupted:
        out.print(f"go on      {command}")
    else:
        out.print(f"use it     stackc compile {result.model} -t {result.target} -o out/ --database {result.database}")


def show_check(out: Console, result: "TuneResult") -> None:
    checked = result.checked
    assert checked is not None
    unit = checked.unit
    before, after = (f"{value:,.3f}" if unit == "ms" else f"{value:,.0f}" for value in (checked.before, checked.after))
    out.print(f"model      {after} {unit}, untuned {before} {unit} ({checked.before / checked.after:.2f}x)")
    out.print(f"outputs    at most {checked.difference:.1e} of their largest value from {checked.reference}")
    for name in checked.dropped:
        out.print(f"dropped    the decision for {name}, which spoils the model's outputs")
    if checked.slower:
        out.print(f"dropped    decisions that are slower between their neighbours than alone: {', '.join(checked.slower)}")
    if checked.choices_dropped:
        out.print("dropped    the choices for the graph: with them the model is slower, or its outputs are spoilt")
