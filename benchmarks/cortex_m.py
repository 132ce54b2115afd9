"""The MLPerf Tiny models as firmware in QEMU: instructions, flash, RAM and exactness, beside TFLite Micro with CMSIS-NN.

    python benchmarks/cortex_m.py [--models ad kws ic vww] [--cores m0 m4 m55] [--json cortex_m.json]
    python benchmarks/cortex_m.py --untuned                                  # the schedules' own defaults alone
    python benchmarks/cortex_m.py --tune 60 --database tuning.db             # a minute of tuning for each model on each core first

Counts are exact: QEMU gives the same number each time, whatever else the machine does. The rows of TFLite Micro and CMSIS-NN (v7 kernels,
gcc 12.2, the same QEMU machines) were counted once and are constants below; on M4 they are of TFLite Micro's whole program, on the other
cores of CMSIS-NN's kernels alone. The live-tensor bound is the largest sum of input and output of one operator. Exit status 1 where an
output differs from TFLite Micro's. With --tune and --database, `untuned` is what the defaults alone take.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

import stack
from stack import knobs, samples
from stack.bench_firmware import count

MODELS = ("ad", "kws", "ic", "vww")
PEERS = {  # million instructions of one run
    "m0": ("cortex-m0", "CMSIS-NN", (1.76, 29.0, 97.6, 86.9)),
    "m3": ("mps2-an385", "CMSIS-NN", (0.95, 10.5, 41.8, 32.1)),
    "m4": ("mps2-an386", "TFLite Micro + CMSIS-NN", (0.583, 7.70, 29.9, 24.1)),
    "m7": ("mps2-an500", "CMSIS-NN", (0.58, 7.76, 29.9, 24.5)),
    "m33": ("mps2-an505", "CMSIS-NN", (0.58, 7.80, 29.9, 24.5)),
    "m55": ("mps3-an547", "CMSIS-NN", (0.28, 1.79, 4.81, 6.42)),
}
TARGETS = {core: target for core, (target, _, _) in PEERS.items()}
BOUND = {"ad": 768, "kws": 16_000, "ic": 49_152, "vww": 55_296}  # bytes of live tensors
PROGRAM = {"ad": 31_700, "kws": 83_900, "ic": 78_800, "vww": 83_900}  # bytes of flash, TFLite Micro on M4 without the model


def benchmark(model: str, core: str, how: dict[str, Any], seconds: float) -> dict[str, Any]:
    """One model on one core, after `seconds` of tuning if any; `how` to compile it."""
    file, target = knobs.models() / "mlperf_tiny" / f"{model}_int8.tflite", TARGETS[core]
    tuned: dict[str, Any] = {}
    if seconds:
        result = stack.tune(file, target, seconds=seconds, trials=100_000, database=how["database"])
        tuned = {"tune_seconds": result.seconds, "tune_trials": result.trials, "tune_stopped": result.stopped}
    if how["database"]:
        plain = stack.compile(file, target, untuned=True)
        tuned["untuned"] = int(sum(plain.profile(samples.draw(plain.inputs, seed=0))))
    library = stack.compile(file, target, **how)
    footprint = count(file, library, samples.draw(library.inputs, seed=0), seed=0)
    _, peer, instructions = PEERS[core]
    theirs = instructions[MODELS.index(model)] * 1e6
    fallback = sorted({operator["kernel"] for operator in library.manifest["operators"] if operator["rule"] == "fallback"})
    row = footprint.json()["results"][0]
    return {"model": model, "core": core, "target": target, "peer": peer, "theirs": theirs, "fallback": fallback, **tuned, **row}


def table(results: list[dict[str, Any]], kind: str) -> Table:
    view = Table(title=f"MLPerf Tiny int8, {kind}: million instructions of one run, bytes of flash and RAM")
    for title in ("core", "model"):
        view.add_column(title)
    for title in ("untuned", "stack", "peer", "ratio", "arena", "bound", "stack bytes", "code", "of TFLM's", "weights", "exact"):
        view.add_column(title, justify="right")
    for core in dict.fromkeys(result["core"] for result in results):
        rows = [result for result in results if result["core"] == core]
        for row in rows:
            ram, flash, model = row["ram_bytes"], row["flash_bytes"], row["model"]
            view.add_row(
                core,
                model,
                f"{row['untuned'] / 1e6:.3f}" if "untuned" in row else "",
                f"{row['instructions'] / 1e6:.3f}",
                f"{row['theirs'] / 1e6:.2f}",
                f"{row['instructions'] / row['theirs']:.2f}",
                f"{ram['arena']:,}",
                f"{BOUND[model]:,}",
                f"{ram['stack']:,}",
                f"{flash['code']:,}",
                f"{flash['code'] / PROGRAM[model]:.2f}",
                f"{flash['weights']:,}",
                {True: "yes", False: "NO", None: "-"}[row["exact"]],
            )
        mean = geometric_mean(row["instructions"] / row["theirs"] for row in rows)
        view.add_row(core, "geometric mean", "", "", "", f"{mean:.2f}", *[""] * 7, end_section=True)
    return view


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--cores", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--untuned", action="store_true", help="the schedules' own defaults alone")
    parser.add_argument("--database", metavar="URL", help="the tuning database to compile with")
    parser.add_argument("--tune", type=float, default=0, metavar="SECONDS", help="tune each model for so long first, into --database")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.tune and not options.database:
        parser.error("--tune needs --database")
    if options.untuned and options.database:
        parser.error("--untuned uses no --database")
    how = {"database": options.database, "untuned": options.untuned}
    pairs = [(model, core) for core in options.cores for model in options.models]
    results = [benchmark(*pair, how, options.tune) for pair in track(pairs, "benchmarking", console=Console(stderr=True))]
    kind = "untuned" if options.untuned else "tuned" if options.database else "as shipped"
    Console(width=160).print(table(results, kind))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if any(result["exact"] is False for result in results):
        sys.exit("an output differs from TFLite Micro's")


if __name__ == "__main__":
    main()
