"""Every model of the zoo on this machine, beside ONNX Runtime and OpenVINO: latency, agreement, compile time, memory.

    python benchmarks/x86.py [--suite f32] [--models resnet50 encoder] [--threads 1 2] [--json x86.json]
    python benchmarks/x86.py --untuned                                       # the schedules' own defaults alone
    python benchmarks/x86.py --tune 1200 --database tuning.db                # at most 20 minutes of tuning for each model first

The suite `f32` keeps every engine in float32. `bf16` allows ours bfloat16, and compares with the precision that OpenVINO takes by itself.
`int8` runs three models of the zoo, quantised by ONNX Runtime's own tool, and says by how many steps of the last quantisation outputs
differ from ONNX Runtime's in integers.

Each model is compiled in a process of its own, and timed in one of its own for each number of threads, since some engines keep the number
of cores that they found first. All engines take turns in one run, on the same cores. Ratios are ours / theirs of the medians, in the last
column of each number of threads to the faster peer; below one we are quicker.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import onnx
import zoo
from onnx import numpy_helper
from rich.console import Console
from rich.progress import track
from rich.table import Table

RELATIVE_ERROR = 1e-4  # that all float32 models stay below, against ONNX Runtime
STEPS = 1.01  # of the last quantisation, that quantised models stay below; a step is a float
SUITES = {
    "f32": ("f32", ["onnxruntime", "openvino"]),
    "bf16": ("bf16", ["onnxruntime", "openvino-default"]),
    "int8": ("f32", ["onnxruntime", "openvino", "openvino-default"]),
}


def tune_one(file: Path, shapes: dict[str, list[int]], folder: Path, how: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Tune one model; runs in a fresh process."""
    import stack

    result = stack.tune(file, "x86", shapes=shapes, seconds=seconds, trials=100_000, database=how["database"], precision=how["precision"])
    return {"tune_seconds": result.seconds, "tune_trials": result.trials, "tune_stopped": result.stopped}


def compile_one(file: Path, shapes: dict[str, list[int]], folder: Path, how: dict[str, Any]) -> dict[str, Any]:
    """Compile one model into `folder`; runs in a fresh process."""
    import stack

    started = time.perf_counter()
    library = stack.compile(file, "x86", shapes=shapes, **how)
    seconds = time.perf_counter() - started
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    library.save(folder)
    operators = library.manifest["operators"]
    return {
        "compile_seconds": seconds,
        "compile_peak_mb": memory,
        "programs": len({operator["kernel"] for operator in operators}),
        "fallback": sorted({operator["kernel"] for operator in operators if operator["rule"] == "fallback"}),
    }


def time_one(file: Path, shapes: dict[str, list[int]], folder: Path, threads: int, against: list[str]) -> dict[str, Any]:
    """Time the library in `folder` beside the peers; runs in a fresh process."""
    import stack
    from stack import bench, samples

    library = stack.load(folder, threads=threads)
    inputs = samples.draw(library.inputs, seed=0)
    comparison = bench.compare(file, library, inputs, shapes, against)
    ours, step = comparison.results[0], last_step(file)
    steps = off_in_integers(file, library, inputs) / step if step and against else None
    faster = max(comparison.ratio.values(), default=None)
    said = {"model": file.stem, "max_rel_error": ours.max_rel_error, "steps": steps, "spread_ms": ours.spread_ms, "faster": faster}
    return {**comparison.json(), **said}


def off_in_integers(file: Path, library: Any, inputs: dict[str, Any]) -> float:
    """How far outputs are from ONNX Runtime's, told to keep to integers where it would take floats: for signed bytes, and slower."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    reference = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"]).run(None, inputs)
    return max(float(abs(one - other).max()) for one, other in zip(library.run(inputs).values(), reference, strict=True))


def last_step(file: Path) -> float | None:
    """The scale of the quantisation that a model's only output leaves; None where it leaves none."""
    graph = onnx.load(file).graph
    made = {name: node for node in graph.node for name in node.output}
    values = {item.name: item for item in graph.initializer}
    last = made.get(graph.output[0].name)
    while last is not None and last.op_type in ("Identity", "Reshape", "Flatten"):
        last = made.get(last.input[0])
    if last is None or last.op_type != "DequantizeLinear" or len(graph.output) != 1:
        return None
    return float(numpy_helper.to_array(values[last.input[1]]).max())


TASKS: dict[str, Callable[..., dict[str, Any]]] = {"tune": tune_one, "compile": compile_one, "time": time_one}


def in_a_process(task: str, *arguments: Any) -> dict[str, Any]:
    command = [sys.executable, __file__, "--task", json.dumps([task, *arguments])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def benchmark(
    file: Path, shapes: dict[str, list[int]], threads: list[int], against: list[str], scratch: Path, how: dict[str, Any], seconds: float
) -> dict[str, Any]:
    library = scratch / f"library-{file.stem}"
    tuned = in_a_process("tune", str(file), shapes, "", how, seconds) if seconds else {}
    result = {"model": file.stem, **tuned, **in_a_process("compile", str(file), shapes, str(library), how)}
    result["runs"] = [in_a_process("time", str(file), shapes, str(library), count, against) for count in threads]
    shutil.rmtree(library)
    return result


def table(title: str, results: list[dict[str, Any]], threads: list[int], against: list[str]) -> Table:
    view = Table(title=f"x86, {title}: milliseconds (median), and ours / theirs")
    view.add_column("model")
    for count in threads:
        view.add_column(f"stack, {count} thr.", justify="right")
        for peer in against:
            view.add_column(peer, justify="right")
            view.add_column("ratio", justify="right")
        view.add_column("to faster", justify="right")
    for title in ("rel. error", "steps", "compile s", "peak MB", "programs", "fallback"):
        view.add_column(title, justify="right")
    for result in results:
        row = [result["model"]]
        for run in result["runs"]:
            times = {entry["engine"]: entry["median_ms"] for entry in run["results"]}
            row.append(f"{times['stack']:.2f}")
            for peer in against:
                row += [f"{times[peer]:.2f}", f"{run['ratio'][peer]:.2f}"]
            row.append(f"{run['faster']:.2f}" if against else "")
        steps = [run["steps"] for run in result["runs"] if run["steps"] is not None]
        error = max(run["max_rel_error"] for run in result["runs"]) if against else float("nan")
        row += [
            f"{error:.1e}",
            f"{max(steps):.2f}" if steps else "",
            f"{result['compile_seconds']:.1f}",
            f"{result['compile_peak_mb']:.0f}",
        ]
        view.add_row(*row, str(result["programs"]), str(len(result["fallback"])))
    row = ["geometric mean"]
    for index in range(len(threads)):
        row.append("")
        for peer in against:
            row += ["", f"{geometric_mean(result['runs'][index]['ratio'][peer] for result in results):.2f}"]
        row.append(f"{geometric_mean(result['runs'][index]['faster'] for result in results):.2f}" if against else "")
    view.add_section()
    view.add_row(*row)
    return view


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=list(SUITES), default="f32")
    parser.add_argument("--untuned", action="store_true", help="the schedules' own defaults alone")
    parser.add_argument("--database", metavar="URL", help="the tuning database to compile with")
    parser.add_argument("--tune", type=float, default=0, metavar="SECONDS", help="tune each model for so long first, into --database")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="some of the zoo; all by default")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--against", nargs="*", metavar="ENGINE", help="other peers than the suite's")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--zoo", type=Path, metavar="DIR", help="where the models are, or will be, kept; a temporary folder by default")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        task, file, shapes, library, *rest = json.loads(options.task)
        print(json.dumps(TASKS[task](Path(file), shapes, Path(library), *rest)))
        return
    precision, peers = SUITES[options.suite]
    against = peers if options.against is None else options.against
    if options.tune and not options.database:
        parser.error("--tune needs --database")
    how = {"database": options.database, "untuned": options.untuned, "precision": precision}
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.zoo or Path(scratch)
        known = folder / "shapes.json"
        shapes = json.loads(known.read_text()) if known.exists() else write(options.suite, folder)
        models = options.models or list(shapes)
        console = Console(stderr=True)
        results = [
            benchmark(folder / f"{name}.onnx", shapes[name], options.threads, against, Path(scratch), how, options.tune)
            for name in track(models, "benchmarking", console=console)
        ]
    kind = "untuned" if options.untuned else "tuned" if options.database else "as shipped"
    Console(width=240).print(table(f"{options.suite}, {kind}", results, options.threads, against))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    check(options.suite, results, against)


def write(suite: str, folder: Path) -> dict[str, Any]:
    """The models of a suite, written into `folder`."""
    if suite != "int8":
        return zoo.write(folder)
    import quantized  # which needs ONNX Runtime

    return quantized.write_quantized(folder)


def check(suite: str, results: list[dict[str, Any]], against: list[str]) -> None:
    """Exit with an error where a model's outputs are not the first peer's."""
    runs = [run for result in results for run in result["runs"]] if against else []
    worst = max((run["max_rel_error"] or 0.0 for run in runs), default=0.0)
    if suite == "f32" and not worst < RELATIVE_ERROR:
        sys.exit(f"a model differs from {against[0]} by {worst:.1e}, more than {RELATIVE_ERROR:.0e}")
    steps = max((run["steps"] or 0.0 for run in runs), default=0.0)
    if suite == "int8" and not steps < STEPS:
        sys.exit(f"a model differs from {against[0]} by {steps:.2f} steps")


if __name__ == "__main__":
    main()
