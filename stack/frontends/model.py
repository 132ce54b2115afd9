"""What every frontend returns."""

from dataclasses import dataclass

import tvm


@dataclass(frozen=True)
class Model:
    """A network in Relax: one function `main`, weights as constants, every shape known. Names are those of the model's file, in order."""

    name: str
    module: tvm.IRModule
    input_names: list[str]
    output_names: list[str]
