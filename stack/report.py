"""Tables and the progress display of the command line. Everything here takes data and prints; nothing is measured or decided."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:  # these import numpy
    from schedules.tuning.exchange import Loaded
    from stack.bench import Comparison
    from stack.bench_firmware import Footprint
    from stack.databases import Known
    from stack.doctor import Finding
    from stack.manifest import Tensor
    from stack.profile import OperatorCount, OperatorTime
    from stack.roofline import Limits
    from targets.cortex_m.board import Board
    from targets.runner import Array
    from targets.target import Target

STAGES = {
    "load": "load TVM",
    "import": "import the model",
    "graph": "graph passes",
    "count": "count instructions",
    "schedule": "schedule",
    "build": "build",
    "time": "run and time",
}


class Output(Console):
    """Standard output."""

    def on_broken_pipe(self) -> None:
        """The reader has seen enough; rich itself would end the process as failed."""
        raise BrokenPipeError


def console() -> Console:
    """Standard output; a pipe or a file gets lines of any length, since folding would spoil them for other programs."""
    return Output(highlight=False, markup=False, width=None if sys.stdout.isatty() else 500)


def table(*columns: str, left: int = 1) -> Table:
    """A plain table; the first `left` columns are text, the others numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        made.add_column(name, justify="left" if index < left else "right", overflow="fold")
    return made


class Stages:
    """What `on_progress` reports, as a line each on a display, and how long each stage took."""

    def __init__(self, display: Progress) -> None:
        self.display = display
        self.tasks: dict[str, TaskID] = {}
        self.begun: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self.tasks:
            for finished in self.tasks.values():
                self.display.update(finished, completed=self.display.tasks[finished].total)
            self.begun[stage] = time.perf_counter()
            self.tasks[stage] = self.display.add_task(STAGES.get(stage, stage))
        self.display.update(self.tasks[stage], completed=done, total=total)

    def __str__(self) -> str:
        times = [*self.begun.values(), time.perf_counter()]
        parts = [
            f"{STAGES.get(stage, stage)} {after - before:.1f}" for stage, before, after in zip(self.begun, times, times[1:], strict=False)
        ]
        return f"{times[-1] - times[0]:.1f} s: {', '.join(parts)}"


@contextmanager
def progress() -> Iterator[Stages]:
    """A line for each stage on stderr, gone when all is done; nothing where stderr is no terminal, which keeps logs to what matters."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with (
        quiet_stderr() as stderr,
        Progress(*columns, console=Console(file=stderr), transient=True, disable=not stderr.isatty()) as display,
    ):
        stages = Stages(display)
        stages("load", 0, 1)
        yield stages


@contextmanager
def quiet_stderr() -> Iterator[Any]:
    """Keep what TVM and LLVM print to the process's stderr off the terminal. Yields the real stderr; STACK_DEBUG lets all through."""
    from stack import knobs

    if knobs.debug():
        yield sys.stderr
        return
    sys.stderr.flush()
    with os.fdopen(os.dup(2), "w") as real, tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield real
        finally:
            sys.stderr.flush()
            real.flush()
            os.dup2(real.fileno(), 2)


def size(count: float) -> str:
    """Bytes as people write them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"


def show_library(folder: Path, manifest: Mapping[str, Any], fallbacks: Sequence[str], spent: str) -> None:
    """What `compile` made, and how long it took."""
    made = table("file", "size")
    for file in sorted(folder.iterdir()):
        made.add_row(str(file), size(file.stat().st_size))
    out = console()
    out.print(made)
    out.print(f"compiled   in {spent}")
    out.print(f"target     {manifest['target']['name']}")
    out.print(f"arena      {size(manifest['arena_bytes'])} ({manifest['arena_bytes']} bytes) a call")
    out.print(f"decisions  {manifest['decided']}")
    out.print(f"operators  {len(manifest['operators'])}, of which {len(fallbacks)} fell to the fallback rule")
    for kernel in dict.fromkeys(fallbacks):
        out.print(f"  fallback: {kernel}")


def show_firmware(folder: Path, manifest: Mapping[str, Any], spent: str) -> None:
    """What `compile` made for a microcontroller: flash, work and arena of each layer, and what causes the peak."""
    from stack.emit.c_report import cause, live_bytes

    operators, arena = manifest["operators"], manifest["arena"]
    made = table("#", "function", "shapes", "rule", "weights", "MACs", "arena", "", left=4)
    for index, operator in enumerate(operators):
        live = live_bytes(arena, index)
        bar = "\u2588" * round(20 * live / max(manifest["arena_bytes"], 1))
        numbers = (f"{value:,}" for value in (operator["weight_bytes"], operator["macs"], live))
        made.add_row(str(index + 1), operator["kernel"], operator["shapes"], operator["rule"], *numbers, bar)
    made.columns[-1].justify = "left"
    out = console()
    out.print(made)
    out.print(f"compiled   in {spent}, for {manifest['target']['name']}")
    for entry in manifest["arenas"]:
        place = f" in {entry['memory']}" if entry["memory"] else ""
        out.print(f"{entry['parameter']:10} {entry['bytes']:,} bytes{place}")
    out.print(f"weights    {manifest['weight_bytes']:,} bytes")
    out.print(f"decisions  {manifest['decided']}")
    out.print(f"work       {sum(operator['macs'] for operator in operators):,} MACs")
    out.print(f"peak       {cause(manifest)}")
    if "cmsis_nn" in manifest:
        show_choice(out, manifest)
    for island in manifest["float_islands"]:
        out.print(f"warning    quantised, and computed in floats: {island}")
    out.print(f"see        {folder / 'report.html'}")


def show_choice(out: Console, manifest: Mapping[str, Any]) -> None:
    """How many layers a library's kernels compute, and why others could not."""
    operators, said = manifest["operators"], manifest["cmsis_nn"]
    taken = sum(operator["rule"] == "cmsis_nn" for operator in operators)
    out.print(f"cmsis-nn   {taken} of {len(operators)} layers, those where it takes fewer instructions than ours")
    for function, lacking in said["lacks"].items():
        out.print(f"cmsis-nn   without {function}: the tree lacks {', '.join(lacking)}")
    for layers in said["differs"]:
        out.print(f"cmsis-nn   not for layer {', '.join(map(str, layers))}: its results there are not those of our kernels")


def show_outputs(tensors: Sequence["Tensor"], outputs: Mapping[str, "Array"]) -> None:
    made = table("output", "dtype", "shape", "min", "max", "first values", left=3)
    for tensor in tensors:
        array = outputs[tensor.name]
        first = ", ".join(f"{value:.6g}" for value in array.ravel()[:4].tolist())
        low, high = (f"{float(bound):.6g}" for bound in (array.min(), array.max())) if array.size else ("", "")
        made.add_row(tensor.name, tensor.dtype, str(list(tensor.shape)), low, high, first + (", ..." if array.size > 4 else ""))
    console().print(made)


def show_comparison(comparison: "Comparison") -> None:
    out = console()
    out.print(f"{comparison.model} for {comparison.target}, {comparison.threads} thread(s), on {comparison.machine}")
    made = table("engine", "median ms", "min ms", "spread ms", "runs", "max abs diff", "max rel diff", "stack / engine")
    ratio = comparison.ratio
    for result in comparison.results:
        errors = ("" if value is None else f"{value:.2e}" for value in (result.max_abs_error, result.max_rel_error))
        times = (f"{value:.3f}" for value in (result.median_ms, result.min_ms, result.spread_ms))
        beside = f"{ratio[result.engine]:.2f}" if result.engine in ratio else ""
        made.add_row(result.engine, *times, str(len(result.times_ms)), *errors, beside)
    out.print(made)
    if len(comparison.results) > 1:
        out.print(f"spread: distance between the quartiles; differences are from {comparison.results[1].engine}")


def show_footprint(footprint: "Footprint") -> None:
    out = console()
    made = table("", "", left=1)
    made.add_row("instructions of one run", f"{footprint.instructions:,}")
    for kind, sizes in (("flash", footprint.flash_bytes), ("RAM", footprint.ram_bytes)):
        for part, count in sizes.items():
            made.add_row(f"{kind}, {part}", f"{count:,} bytes")
    agrees = {True: "to the last bit", False: "NO", None: "not compared"}[footprint.exact]
    out.print(f"{footprint.model} for {footprint.target}")
    out.print(made)
    out.print(f"equal to TFLite Micro: {agrees}")


def show_profile(times: Sequence["OperatorTime"], limits: "Limits", threads: int) -> None:
    made = table("#", "operator", "rule", "decision", "ms", "share", "GFLOP/s", "roofline", left=4)
    for row in sorted(times, key=lambda row: -row.ms):
        rule = f"! {row.rule}" if row.is_fallback else row.rule
        numbers = f"{row.ms:.4f}", f"{row.share:.1%}", f"{row.gflops:.1f}", f"{row.roofline:.0%}"
        made.add_row(str(row.index), row.kernel, rule, row.source, *numbers)
    out = console()
    out.print(made)
    speeds = ", ".join(f"{speed / 1e9:.1f} GB/s within {size(room)}" for room, speed in limits.bandwidths)
    out.print(f"total {sum(row.ms for row in times):.3f} ms on {threads} thread(s)")
    out.print(f"roofline: the least time possible over the time taken; measured here: {limits.flops / 1e9:.1f} GFLOP/s, {speeds}")
    for row in times:
        if row.is_fallback:
            out.print(f"warning: operator {row.index} '{row.kernel}' fell to the fallback rule: {row.ms:.4f} ms, {row.share:.1%}")


def show_counts(rows: Sequence["OperatorCount"], unit: str, board: str) -> None:
    """The operators of a C project, the most expensive first."""
    made = table("#", "operator", "shapes", "rule", "decision", unit, "share", "MACs", "per MAC", left=5)
    for row in sorted(rows, key=lambda row: -row.count):
        each = f"{row.count / row.macs:.2f}" if row.macs else ""
        numbers = f"{row.count:,}", f"{row.share:.1%}", f"{row.macs:,}", each
        made.add_row(str(row.index + 1), row.kernel, row.shapes, row.rule, row.source, *numbers)
    out = console()
    out.print(made)
    total, macs = sum(row.count for row in rows), sum(row.macs for row in rows)
    out.print(f"total {total:,} {unit} on {board}" + (f", {total / macs:.2f} per MAC" if macs else ""))


def show_boards(boards: Sequence["Board"]) -> None:
    """Boards with their memories, and how firmware gets there."""
    made = table("board", "core", "flash", "RAM", "QEMU", "flashed with", "serial", "what it is", left=2)
    for column, justify in zip(made.columns[4:], ("left",) * 4, strict=True):
        column.justify = justify  # type: ignore[assignment]  # rich's own literal type
    for board in boards:
        flash, ram = (" + ".join(size(memory.bytes) for memory in board.memories(kind)) for kind in ("flash", "ram"))
        tool = str(board.flash_with.get("tool", ""))
        made.add_row(board.name, board.core, flash, ram, board.qemu, tool, board.uart.get("driver", ""), board.summary)
    console().print(made)


def show_targets(targets: Sequence["Target"]) -> None:
    made = table("target", "family", "summary", "cores", "vector bytes", "L2", left=3)
    for target in targets:
        machine = target.machine
        made.add_row(
            target.name,
            target.family,
            target.summary,
            str(machine.cores),
            str(machine.vector_bytes) if machine.vector_bytes > 4 else "",
            size(machine.l2_bytes) if machine.l2_bytes else "",
        )
    console().print(made)


def show_database(known: Sequence["Known"], name: str) -> None:
    """What a tuning database has."""
    made = table("target", "machine", "versions", "programs", "measured", "failed", "last", left=3)
    for each in known:
        moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.last))
        made.add_row(each.target, each.machine, each.versions, *map(str, (each.programs, each.measured, each.failed)), moment)
    out = console()
    out.print(made if known else f"{name}: nothing was measured yet")


def show_loaded(loaded: "Loaded", source: str) -> None:
    """What came out of a file or another database."""
    print(f"{loaded.added} rows added, {loaded.known} known already")
    if loaded.cut:
        print(f"{source}: the last line was cut off and is left out", file=sys.stderr)


def show_findings(findings: Sequence["Finding"], knobs: Mapping[str, str]) -> None:
    from stack.knobs import shown

    made = table("what", "found", "state", "command that installs it", left=4)
    for finding in findings:
        made.add_row(finding.what, finding.found, finding.state, finding.command if not finding.fine else "")
    out = console()
    out.print(made)
    out.print("\nenvironment variables")
    settings = table("name", "value", "meaning", left=3)
    for name, meaning in knobs.items():
        settings.add_row(name, shown(name), meaning)
    out.print(settings)
