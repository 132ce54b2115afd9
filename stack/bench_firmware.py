"""Measure a model as firmware: instructions of one run, flash and RAM of the complete program, and whether it agrees with TFLite Micro.

Instruction counts are exact and repeat: the firmware runs in QEMU, which counts them. There is nothing to interleave or to average.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from stack.bench import OURS
from stack.errors import ToolMissing
from stack.library import Library
from stack.peers import module
from stack.samples import draw
from targets.runner import Array

INPUTS = 10  # random ones that both engines compute


@dataclass(frozen=True)
class Footprint:
    """One engine on one target. `exact` is None where TFLite Micro is not installed or cannot read the model."""

    model: str
    target: str
    instructions: int
    flash_bytes: Mapping[str, int]
    ram_bytes: Mapping[str, int]
    exact: bool | None

    def json(self) -> dict[str, Any]:
        row = {
            "engine": OURS,
            "instructions": self.instructions,
            "flash_bytes": dict(self.flash_bytes),
            "ram_bytes": dict(self.ram_bytes),
            "exact": self.exact,
        }
        return {"model": self.model, "target": self.target, "results": [row]}


def count(model: Path, library: Library, inputs: Mapping[str, Array], seed: int) -> Footprint:
    """Run `library`, compiled from `model`, as firmware."""
    family = library.manifest["target"]["family"]
    measured = import_module(f"targets.{family}.runner").measure(library.folder, library.manifest, library.arrays(inputs))
    return Footprint(str(model), library.manifest["target"]["name"], **measured, exact=exact(model, library, seed))


def exact(model: Path, library: Library, seed: int) -> bool | None:
    """Whether all outputs of `INPUTS` random inputs, run one after the other, are those of TFLite Micro to the last bit."""
    if model.suffix != ".tflite":
        return None
    draws = [draw(library.inputs, seed + index) for index in range(INPUTS)]
    try:
        expected = tflite_micro(model, [list(arrays.values()) for arrays in draws], len(library.outputs))
    except ToolMissing:
        return None
    fresh = Library(library.folder, library.manifest)  # a streaming network begins anew, as its peer does
    got = [fresh.run(arrays) for arrays in draws]
    return all(
        np.array_equal(ours[tensor.name].ravel(), theirs[index].ravel())
        for ours, theirs in zip(got, expected, strict=True)
        for index, tensor in enumerate(library.outputs)
    )


def tflite_micro(model: Path, runs: Sequence[Sequence[Array]], count: int) -> list[list[Array]]:
    """The `count` outputs of TFLite Micro's interpreter for each of `runs`, one after the other: a streaming network keeps its state."""
    runtime = module("tflite_micro").runtime
    interpreter = runtime.Interpreter.from_file(str(model), arena_size=64 << 20)
    outputs = []
    for arrays in runs:
        for index, array in enumerate(arrays):
            interpreter.set_input(array, index)
        interpreter.invoke()
        count = sum(1 for _ in range(len(arrays)))
        outputs.append([np.array(interpreter.get_output(index)) for index in range(count)])
    return outputs
