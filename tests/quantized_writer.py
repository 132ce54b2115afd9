"""A quantised network that grows operator by operator, each with a scale that fits: what `random_quantized.py` writes with.

Each operator is run by TFLite Micro as it is added, on one sample, and the scale of its result is moved until that fills its integers and
does not saturate.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from tests.frontends.tflite.build import C, Op, T, micro, model, op

Choice = TypeVar("Choice")
Shape = tuple[int, ...]
Meaning = tuple[float, int]  # scale and zero point
LARGEST = 10000  # elements a tensor
TRIALS = 12  # of scales
MOST = 1000.0  # by which a scale is moved


class Unsuitable(Exception):
    """This layer does not fit what there is: another one is drawn."""


class Writer:
    """A network that grows; `live` are its int8 tensors so far, `samples` what each holds for one sample of the inputs."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.inputs: list[T] = []
        self.constants: dict[str, T] = {}
        self.tensors: dict[str, T] = {}
        self.ops: list[Op] = []
        self.live: dict[str, T] = {}
        self.samples: dict[str, np.ndarray] = {}

    def pick(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def between(self, low: int, high: int) -> int:
        """Both included."""
        return int(self.rng.integers(low, high + 1))

    def value(self, rank: int | None = None, least: int = 1) -> T:
        """A live tensor of this rank, or of at least so many dimensions; more often a recent one."""
        fitting = [tensor for tensor in self.live.values() if len(tensor.shape) in ((rank,) if rank else range(least, 5))]
        if not fitting:
            raise Unsuitable
        return fitting[-1] if self.chance(0.6) else self.pick(fitting)

    def input(self, shape: Shape) -> None:
        """An int8 input, or one of floats and a quantisation."""
        name = f"x{len(self.inputs)}"
        if self.chance(0.12):
            self.inputs.append(T(name, shape, "float32"))
            self.samples[name] = self.rng.standard_normal(shape).astype(np.float32)
            self.emit("QUANTIZE", [name], shape, meaning=self.meaning(0.02))
            return
        tensor = T(name, shape, "int8", *self.meaning(0.03))
        self.inputs.append(tensor)
        self.live[name] = tensor
        self.samples[name] = self.rng.integers(-128, 128, shape).astype(np.int8)

    def meaning(self, scale: float, zero: int | None = None) -> Meaning:
        if zero is None:
            zero = self.pick((self.between(-60, 60), self.between(-128, 127), -128, 0))
        return float(np.float32(scale * self.rng.uniform(0.6, 1.6))), zero

    def constant(self, value: Any, dtype: str = "int32", **meaning: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = C(name, np.asarray(value, dtype), **meaning)
        return name

    def weights(self, *shape: int) -> np.ndarray:
        most = self.pick((127, 127, 127, 30, 5))
        return self.rng.integers(-most, most + 1, shape).astype("int8")

    def emit(
        self, kind: str, inputs: Sequence[str], *shapes: Shape, meaning: Meaning | None = None, scale: float = 0.0, **options: Any
    ) -> T:
        """One operator. Its results have this `meaning`; otherwise one near `scale`, or its inputs', is sought. Gives the first of them."""
        if not all(0 < np.prod(shape) <= LARGEST and min(shape) > 0 for shape in shapes):
            raise Unsuitable
        names = [f"t{len(self.tensors) + index}" for index in range(len(shapes))]
        node = op(kind, inputs, names, **options)
        relu = options.get("fused_activation_function") in ("RELU", "RELU6") or kind in ("RELU", "RELU6")
        start = scale or max((float(self.live[name].scale) for name in inputs if name in self.live), default=1.0)
        found = meaning or self.meaning(start, -128 if relu and self.chance(0.7) else None)
        for _ in range(TRIALS):
            results = [T(name, shape, "int8", *found) for name, shape in zip(names, shapes, strict=True)]
            values = self.run(node, results)
            change = 1.0 if meaning else better(values[0], found[1], relu)
            if change == 1.0:
                break
            found = float(np.float32(found[0] * change)), found[1]
            if not start / MOST < found[0] < start * MOST:
                raise Unsuitable
        self.ops.append(node)
        for result, value in zip(results, values, strict=True):
            self.tensors[result.name] = self.live[result.name] = result
            self.samples[result.name] = value
        return results[0]

    def run(self, node: Op, results: Sequence[T]) -> list[np.ndarray]:
        """What TFLite Micro computes for the samples."""
        known = {tensor.name: tensor for tensor in [*self.inputs, *self.tensors.values()]}
        names = [name for name in dict.fromkeys(node.inputs) if name is not None]
        given = [known[name] for name in names if name in known]
        held = [self.constants[name] for name in names if name in self.constants]
        alone = model(given, [node], [result.name for result in results], tensors=results, constants=held)
        return micro(alone, [self.samples[tensor.name] for tensor in given])

    def like(self, tensor: T, meaning: Meaning) -> T:
        """`tensor` with this scale and zero point."""
        if meaning_of(tensor) == meaning:
            return tensor
        return self.emit("QUANTIZE", [tensor.name], tuple(tensor.shape), meaning=meaning)


def meaning_of(tensor: T) -> Meaning:
    assert isinstance(tensor.scale, float)
    assert isinstance(tensor.zero_point, int)
    return tensor.scale, tensor.zero_point


def better(values: np.ndarray, zero: int, relu: bool) -> float:
    """By what a scale has to be multiplied: more where a third is at the ends, less where values hardly differ."""
    ends = (values == 127) | ((values == -128) & (not relu))
    if ends.mean() > 0.33 and values.size > 2:
        return 3.1
    inside = values[values != zero] if relu else values
    if values.size > 2 and (inside.size < 2 or inside.astype(float).std() < 12):
        return 0.43
    return 1.0
