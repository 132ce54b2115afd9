"""A first look: compile a real model, run it on a real file, and compare the answer and the time with ONNX Runtime's.

    python -m stack.demo [FILE]

The model is Magika's, which Google uses to tell what a file is from its bytes. It comes inside the PyPI package `magika`.
"""

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import stack
from stack import bench, peers, report
from stack.errors import StackError, ToolMissing
from targets.runner import Array

OUTPUT = Path("demo-library")


def model_folder() -> Path:
    """Where the installed package keeps its model."""
    spec = find_spec("magika")
    if spec is None or not spec.submodule_search_locations:
        raise ToolMissing("the package with the demo's model is not installed", hint="pip install --no-deps magika")
    return Path(next(iter(spec.submodule_search_locations))) / "models/standard_v3_3"


def tokens(content: bytes, config: dict[str, Any]) -> Array:
    """The model's input: the file's first and last bytes without the blanks around them, padded to a fixed length."""
    block, padding = config["block_size"], config["padding_token"]
    if len(content) <= block:
        content = content.strip()
    first = content[:block].lstrip()[: config["beg_size"]]
    last = content[-block:].rstrip()[-config["end_size"] :]
    row = [*first, *[padding] * (config["beg_size"] - len(first)), *[padding] * (config["end_size"] - len(last)), *last]
    return np.array([row], np.int32)


def main(file: Path) -> None:
    folder = model_folder()
    model = folder / "model.onnx"
    config = json.loads((folder / "config.min.json").read_text())
    labels = config["target_labels_space"]
    inputs = {"bytes": tokens(file.read_bytes(), config)}
    shapes = {"bytes": (1, config["beg_size"] + config["end_size"])}
    print(f"compiling {model.name} of magika for this machine")
    with report.progress() as on_progress:
        library = stack.compile(model, "x86", shapes=shapes, on_progress=on_progress)
        library.save(OUTPUT)
    (ours,) = library.run(inputs).values()
    (theirs,) = peers.onnxruntime(model, shapes, library.threads)(inputs)
    print(f"what is {file}?")
    for engine, scores in (("stack", ours), ("onnxruntime", theirs)):
        best = int(scores.argmax())
        print(f"  {engine:12} {labels[best]}, score {scores.flat[best]:.6f}")
    print(f"  largest difference over all {len(labels)} scores: {float(np.abs(ours - theirs).max()):.2e}")
    print("timing both, taking turns")
    comparison = bench.compare(model, library, inputs, shapes, ["onnxruntime"])
    for result in comparison.results:
        print(f"  {result.engine:12} {result.median_ms:.3f} ms (median; {comparison.threads} threads)")
    print(f"the library lies in {OUTPUT.absolute()}; run it with `stackc run {OUTPUT}`")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", default=Path(__file__), help="what to ask about (default: the demo's own source)")
    try:
        main(parser.parse_args().file)
    except StackError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
