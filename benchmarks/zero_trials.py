"""What compiling is worth without a trial: models as the package ships, beside the same models tuned on this machine.

    python benchmarks/zero_trials.py MODEL.onnx [MODEL.onnx ...] [--seconds 300] [--threads 1] [--database URL] [--json FILE]

Each model is compiled three times: with the schedules' own defaults alone, with what ships (decisions and the cost model's predictions),
and with what tuning it for `--seconds` found. The three libraries take turns in one run, with the pauses of `stackc bench`. Of use are
models that what ships was not made from.
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from rich.console import Console
from rich.table import Table

import stack
from stack import bench, samples
from stack.tuning.check import outputs_of

TARGET = "x86"


def measure(model: Path, seconds: float, database: str, threads: int) -> dict[str, Any]:
    """Milliseconds of the three libraries of one model."""
    tuned = stack.tune(model, TARGET, seconds=seconds, trials=100_000, database=database)
    libraries = {
        "untuned": stack.compile(model, TARGET, threads=threads, untuned=True),
        "shipped": stack.compile(model, TARGET, threads=threads, database=None),
        "tuned": stack.compile(model, TARGET, threads=threads, database=database),
    }
    decided = libraries["shipped"].manifest["decided"]
    inputs = samples.draw(libraries["tuned"].inputs, seed=0)
    with bench.confined(threads):
        fresh = {name: stack.Library(each.folder, each.manifest, threads) for name, each in libraries.items()}
        times = bench.interleave({name: partial(outputs_of, library) for name, library in fresh.items()}, inputs)
    took = {name: median(each) for name, each in times.items()}
    said = {"decided": decided, "trials": tuned.trials, "seconds": tuned.seconds}
    return {"model": model.stem, **took, "ratio": took["shipped"] / took["tuned"], **said}


def table(results: list[dict[str, Any]]) -> Table:
    view = Table(title="without a trial: milliseconds (median), and shipped / tuned")
    for title in ("model", "untuned", "shipped", "tuned", "shipped / tuned", "trials", "what ships decided"):
        view.add_column(title, justify="left" if title.startswith(("model", "what")) else "right")
    for result in results:
        numbers = [f"{result[name]:.2f}" for name in ("untuned", "shipped", "tuned", "ratio")]
        view.add_row(result["model"], *numbers, str(result["trials"]), result["decided"])
    view.add_section()
    view.add_row("geometric mean", "", "", "", f"{geometric_mean(result['ratio'] for result in results):.2f}", "", "")
    return view


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--seconds", type=float, default=300.0, help="of tuning, for each model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--database", metavar="URL", help="where tuning keeps what it measures; a temporary file by default")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        database = options.database or str(Path(scratch) / "tuning.db")
        results = [measure(model, options.seconds, database, options.threads) for model in options.models]
    Console(width=140).print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
