"""What every frontend returns."""

from dataclasses import dataclass

import tvm


@dataclass(frozen=True)
class Signature:
    """What a network is called and what it takes and returns, in order, by the names of the model's file."""

    name: str
    input_names: list[str]
    output_names: list[str]


@dataclass(frozen=True)
class Model(Signature):
    """A network in Relax: one function `main`, weights as constants, every shape known."""

    module: tvm.IRModule

    def signature(self) -> Signature:
        """Without the module, whose weights would stay in memory."""
        return Signature(self.name, self.input_names, self.output_names)
