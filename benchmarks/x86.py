"""Every model of the zoo on this machine, beside ONNX Runtime and OpenVINO, untuned: latency, agreement, compile time, memory.

    python benchmarks/x86.py [--models resnet50 encoder] [--threads 1 2] [--against onnxruntime openvino] [--json x86.json]

Each model is compiled in a process of its own, and timed in one of its own for each number of threads, since some engines keep the number
of cores that they found first. All engines take turns in one run, on the same cores, in float32. Ratios are ours / theirs of the medians;
below one we are quicker.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import zoo
from rich.console import Console
from rich.progress import track
from rich.table import Table

RELATIVE_ERROR = 1e-4  # that all float32 models stay below, against ONNX Runtime


def compile_one(file: Path, shapes: dict[str, list[int]], folder: Path) -> dict[str, Any]:
    """Compile one model into `folder`; runs in a fresh process."""
    import stack

    started = time.perf_counter()
    library = stack.compile(file, "x86", shapes=shapes)
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
    comparison = bench.compare(file, library, samples.draw(library.inputs, seed=0), shapes, against)
    ours = comparison.results[0]
    return {**comparison.json(), "model": file.stem, "max_rel_error": ours.max_rel_error, "spread_ms": ours.spread_ms}


def in_a_process(task: str, *arguments: Any) -> dict[str, Any]:
    command = [sys.executable, __file__, "--task", json.dumps([task, *arguments])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def benchmark(file: Path, shapes: dict[str, list[int]], threads: list[int], against: list[str], scratch: Path) -> dict[str, Any]:
    library = scratch / f"library-{file.stem}"
    result = {"model": file.stem, **in_a_process("compile", str(file), shapes, str(library))}
    result["runs"] = [in_a_process("time", str(file), shapes, str(library), count, against) for count in threads]
    shutil.rmtree(library)
    return result


def table(results: list[dict[str, Any]], threads: list[int], against: list[str]) -> Table:
    view = Table(title="x86, float32, untuned: milliseconds (median), and ours / theirs")
    view.add_column("model")
    for count in threads:
        view.add_column(f"stack, {count} thr.", justify="right")
        for peer in against:
            view.add_column(peer, justify="right")
            view.add_column("ratio", justify="right")
    for title in ("rel. error", "compile s", "peak MB", "programs", "fallback"):
        view.add_column(title, justify="right")
    for result in results:
        row = [result["model"]]
        for run in result["runs"]:
            times = {entry["engine"]: entry["median_ms"] for entry in run["results"]}
            row.append(f"{times['stack']:.2f}")
            for peer in against:
                row += [f"{times[peer]:.2f}", f"{run['ratio'][peer]:.2f}"]
        error = max(run["max_rel_error"] for run in result["runs"]) if against else float("nan")
        row += [f"{error:.1e}", f"{result['compile_seconds']:.1f}", f"{result['compile_peak_mb']:.0f}"]
        view.add_row(*row, str(result["programs"]), str(len(result["fallback"])))
    row = ["geometric mean"]
    for index in range(len(threads)):
        row.append("")
        for peer in against:
            row += ["", f"{geometric_mean(result['runs'][index]['ratio'][peer] for result in results):.2f}"]
    view.add_section()
    view.add_row(*row)
    return view


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", metavar="NAME", help="some of the zoo; all by default")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--against", nargs="*", default=["onnxruntime", "openvino"])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--zoo", type=Path, metavar="DIR", help="where the models are, or will be, kept; a temporary folder by default")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        task, file, shapes, library, *rest = json.loads(options.task)
        work = compile_one if task == "compile" else time_one
        print(json.dumps(work(Path(file), shapes, Path(library), *rest)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.zoo or Path(scratch)
        known = folder / "shapes.json"
        shapes = json.loads(known.read_text()) if known.exists() else zoo.write(folder)
        models = options.models or list(shapes)
        console = Console(stderr=True)
        results = [
            benchmark(folder / f"{name}.onnx", shapes[name], options.threads, options.against, Path(scratch))
            for name in track(models, "benchmarking", console=console)
        ]
    Console(width=200).print(table(results, options.threads, options.against))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    worst = max(run["max_rel_error"] or 0.0 for result in results for run in result["runs"]) if options.against else 0.0
    if not worst < RELATIVE_ERROR:
        sys.exit(f"a model differs from {options.against[0]} by {worst:.1e}, more than {RELATIVE_ERROR:.0e}")


if __name__ == "__main__":
    main()
