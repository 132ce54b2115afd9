"""How long compiling takes and how much memory, stage by stage: for stacks of equal and of different layers, and for model files.

    python benchmarks/compile_time.py [model.onnx ...] [--layers 8 16 32] [--json compile_time.json]

Each compile has a process of its own. Equal layers differ in their weights and share one program; of different layers no two do, so their
cost should grow with their number, and that of equal ones hardly. `s` is how long a stage took, the loading of TVM not counted; `calls` of
`programs`; `MB` the most memory that was in use.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx
import zoo
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

CHANNELS, SIZE = 32, 80
STAGES = ("import", "graph", "schedule", "build")


def layers(count: int, different: bool) -> onnx.ModelProto:
    """Convolutions one behind the other. Without padding each makes the image smaller, so that the next is another program."""
    graph = zoo.Graph(seed=0)
    x, pad = "x", 0 if different else 1
    for _ in range(count):
        weight = graph.normal(CHANNELS, CHANNELS, 3, 3, scale=(2 / (9 * CHANNELS)) ** 0.5)
        x = graph.op("Relu", graph.op("Conv", x, weight, kernel_shape=[3, 3], pads=[pad] * 4))
    left = SIZE - 2 * count * (1 - pad)
    assert left > 0, f"{count} layers are too many for an image of {SIZE} x {SIZE}"
    return graph.model("layers", (1, CHANNELS, SIZE, SIZE), x, (1, CHANNELS, left, left))


def one(model: str | tuple[int, bool]) -> dict[str, Any]:
    """Compile once; runs in a fresh process."""
    import stack
    from stack.compiler import compile  # what a first compile imports is not part of it

    source = model if isinstance(model, str) else layers(*model)
    began: dict[str, float] = {}

    def on_progress(stage: str, _done: int, _total: int) -> None:
        began.setdefault(stage, time.perf_counter())

    started, cpu = time.perf_counter(), time.process_time()
    library: stack.Library = compile(source, "x86", on_progress=on_progress)
    ended = time.perf_counter()
    times = [began[stage] for stage in STAGES] + [ended]
    operators = library.manifest["operators"]
    return {
        "seconds": ended - started,
        "cpu_seconds": time.process_time() - cpu,
        "stages": {stage: after - before for stage, before, after in zip(STAGES, times, times[1:], strict=False)},
        "operators": len(operators),
        "programs": len({operator["kernel"] for operator in operators}),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_a_process(model: str | tuple[int, bool]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", json.dumps(model)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, metavar="model.onnx")
    parser.add_argument("--layers", nargs="*", type=int, default=[8, 16, 32])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(json.loads(arguments.one))))
        return
    jobs: dict[str, str | tuple[int, bool]] = {file.stem: str(file) for file in arguments.models}
    for different in (False, True):
        jobs |= {f"{count} {'different' if different else 'equal'}": (count, different) for count in arguments.layers}
    console = Console()
    results = {name: in_a_process(job) for name, job in track(jobs.items(), "compile", console=console, transient=True)}
    table = Table("network", "s", "CPU s", *STAGES, "calls", "programs", "MB", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for name, result in results.items():
        stages = (f"{result['stages'][stage]:.2f}" for stage in STAGES)
        counts = (str(result["operators"]), str(result["programs"]))
        table.add_row(name, f"{result['seconds']:.2f}", f"{result['cpu_seconds']:.2f}", *stages, *counts, f"{result['peak_mb']:.0f}")
    console.print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
