"""Models of many single operators side by side, so that one compile covers them all.

A Case is one node; its first input, or those in `fed`, are given when the model runs, the rest are weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.models.build import model


@dataclass(frozen=True)
class Case:
    name: str
    op: str
    inputs: tuple[np.ndarray | None, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    fed: tuple[int, ...] = (0,)
    outputs: int = 1

    def input_name(self, index: int) -> str:
        return f"{self.name}.in{index}" if self.inputs[index] is not None else ""

    @property
    def output_names(self) -> list[str]:
        return [f"{self.name}.out{index}" for index in range(self.outputs)]

    @property
    def feed(self) -> dict[str, np.ndarray]:
        return {self.input_name(i): array for i, array in enumerate(self.inputs) if array is not None and i in self.fed}


def side_by_side(cases: Sequence[Case], opset: int) -> onnx.ModelProto:
    """One model with every case's inputs and outputs."""
    nodes, inputs, outputs, weights = [], [], [], {}
    for case in cases:
        names = [case.input_name(i) for i in range(len(case.inputs))]
        nodes.append(helper.make_node(case.op, names, case.output_names, case.name, **case.attributes))
        for index, array in enumerate(case.inputs):
            if array is None:
                continue
            if index in case.fed:
                inputs.append(helper.make_tensor_value_info(names[index], helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
            else:
                weights[names[index]] = array
        outputs += case.output_names
    return model(nodes, inputs, outputs, weights, opset)
