"""Compare random networks with ONNX Runtime: `python -m tests.compare_networks FIRST COUNT [TARGET...]` for as many as one likes."""

import faulthandler
import itertools
import sys
from collections.abc import Sequence

import numpy as np
import onnx

from tests.random_networks import random_network

LIMIT = 1e-4  # of the largest value


def input_of(model: onnx.ModelProto, seed: int) -> np.ndarray:
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def reference(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return list(onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x}))


def error(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, in parts of the largest value; infinite where something is not a number."""
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return float("inf")
    return float(np.abs(actual - expected).max() / max(float(np.abs(expected).max()), 1e-3))


def compare(seed: int, target: str, threads: int = 1) -> float:
    """The error of the network called `seed`, compiled for `target`."""
    import stack

    model = random_network(seed)
    x = input_of(model, seed)
    outputs = stack.compile(model, target, threads=threads).run({"x": x})
    return max(error(outputs[output.name], expected) for output, expected in zip(model.graph.output, reference(model, x), strict=True))


def main(first: int, count: int, targets: Sequence[str]) -> int:
    """Compare `count` networks; a line for each that is wrong or does not compile. One that takes longer than a minute ends the run."""
    wrong = 0
    for seed, target in itertools.product(range(first, first + count), targets):
        faulthandler.dump_traceback_later(60, exit=True)
        print(f"\r{seed} on {target} ", end="", file=sys.stderr, flush=True)
        try:
            found, text = compare(seed, target), ""
        except Exception as failure:  # a fault of any type is counted, and the next network tried
            found, text = float("inf"), f"{type(failure).__name__}: {failure}"
        if found > LIMIT:
            wrong += 1
            print(f"seed {seed} on {target}: error {found:.1e} {text[:600]}", flush=True)
    print(f"{count} networks from seed {first} on {', '.join(targets)}: {wrong} wrong")
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or ["x86", "x86-avx2"])))
