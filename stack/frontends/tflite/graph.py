"""What a TFLite file says: tensors, what their integers stand for, and operators in the order in which they run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Affine:
    """What integers stand for: (integer - zero_point) * scale. Both are vectors: of one element, or of one for each slice of `axis`."""

    scale: Array  # float32
    zero_point: Array  # int32
    axis: int = 0

    @property
    def per_tensor(self) -> bool:
        return self.scale.size == 1

    def equals(self, other: "Affine") -> bool:
        """Whether the same integers stand for the same numbers."""
        return np.array_equal(self.scale, other.scale) and np.array_equal(self.zero_point, other.zero_point)


@dataclass(frozen=True)
class Tensor:
    """`dtype` is numpy's name of it; int4 is unpacked to int8. `value` is a constant's, `open_shape` has -1 where dimensions may vary."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    affine: Affine | None = None
    value: Array | None = field(default=None, repr=False)
    variable: bool = False
    open_shape: tuple[int, ...] | None = None
    sparse: bool = False


@dataclass(frozen=True)
class Node:
    """One operator. Inputs that are left out are -1; `options` are named as in the schema, in snake case."""

    op: str
    position: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]
    intermediates: tuple[int, ...] = ()


@dataclass(frozen=True)
class Graph:
    """One subgraph; inputs and outputs are positions in `tensors`."""

    tensors: list[Tensor]
    nodes: list[Node]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def label(self, node: Node) -> str:
        """How messages name a node: by the first tensor it writes, or reads where it writes none."""
        kind, found = ("output", node.outputs) if node.outputs else ("input", node.inputs)
        names = [self.tensors[index].name for index in found if index >= 0]
        return f"{node.op} ({kind} {names[0]!r})" if names else f"{node.op} (operator {node.position})"


@dataclass(frozen=True)
class Source:
    """A file: `graphs[0]` is what runs, the others are called from it. `at` says in messages where it came from."""

    name: str
    at: str
    graphs: list[Graph]

    @property
    def main(self) -> Graph:
        return self.graphs[0]
