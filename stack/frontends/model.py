"""What every frontend returns."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm


@dataclass(frozen=True)
class State:
    """A tensor that a streaming network keeps from call to call, and what it holds before the first."""

    name: str
    initial: np.ndarray[Any, np.dtype[Any]] = field(repr=False)


@dataclass(frozen=True)
class Quantization:
    """What the integers of an input or output stand for: (value - zero_point) * scale."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Signature:
    """What a network is called and what it takes and returns, in order, by the names of the model's file.

    `states` are those of a streaming network: `main` takes their values after the inputs, and returns the next ones after the outputs.
    `quantization` is known for the inputs and outputs that are integers standing for real numbers.
    """

    name: str
    input_names: list[str]
    output_names: list[str]
    states: list[State] = field(default_factory=list, kw_only=True)
    quantization: dict[str, Quantization] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True)
class Model(Signature):
    """A network in Relax: one function `main`, weights as constants, every shape known."""

    module: tvm.IRModule

    def signature(self) -> Signature:
        """Without the module, whose weights would stay in memory."""
        return Signature(self.name, self.input_names, self.output_names, states=self.states, quantization=self.quantization)
