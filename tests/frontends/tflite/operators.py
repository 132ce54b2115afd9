"""Models of many single operators side by side, in float and in int8, so that one compile and one run of TFLite Micro cover them all.

A Case is one operator. Arrays in `fed` are given when the model runs, the others are constants. The int8 form of a case has scales
that hold the values of its float form, and for some operators the scales that TFLite demands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.frontends.tflite.build import C, Op, T, model, op

Arrays = dict[str, np.ndarray]
IN_SCALE, IN_ZERO = 4 / 255, 3
FIXED: dict[str, tuple[float, int]] = {
    "LOGISTIC": (1 / 256, -128),
    "SOFTMAX": (1 / 256, -128),
    "TANH": (1 / 128, 0),
    "L2_NORMALIZATION": (1 / 128, 0),
    "LOG_SOFTMAX": (16 / 256, 127),
}
BIAS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}
CHANNELS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 0}  # the axis of the weights that has a scale of its own
SAME_SCALE = {
    "ABS", "AVERAGE_POOL_2D", "BATCH_TO_SPACE_ND", "BROADCAST_TO", "CONCATENATION", "DEPTH_TO_SPACE", "EXPAND_DIMS", "GATHER",
    "GATHER_ND", "MAXIMUM", "MAX_POOL_2D", "MINIMUM", "MIRROR_PAD", "PACK", "PAD", "REDUCE_MAX", "REDUCE_MIN", "RELU6", "RESHAPE",
    "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "SELECT_V2", "SLICE", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "SPLIT",
    "SPLIT_V", "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE", "UNPACK",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    name: str
    op: str
    inputs: tuple[np.ndarray | None, ...]
    outputs: tuple[tuple[int, ...], ...]
    options: dict[str, Any] = field(default_factory=dict)
    fed: tuple[int, ...] = (0,)
    dtype: str = "float32"

    def names(self) -> list[str | None]:
        return [None if array is None else f"{self.name}.{index}" for index, array in enumerate(self.inputs)]

    def results(self) -> list[str]:
        return [f"{self.name}.y{index}" for index in range(len(self.outputs))]

    def node(self) -> Op:
        return op(self.op, self.names(), self.results(), **self.options)


def arrays(cases: Sequence[Case]) -> Arrays:
    """What the float models are given, by name."""
    return {
        f"{case.name}.{index}": array
        for case in cases
        for index, array in enumerate(case.inputs)
        if array is not None and index in case.fed
    }


def in_float(cases: Sequence[Case]) -> bytes:
    tensors = [T(name, array.shape, str(array.dtype)) for name, array in arrays(cases).items()]
    constants = [
        C(f"{case.name}.{index}", array)
        for case in cases
        for index, array in enumerate(case.inputs)
        if array is not None and index not in case.fed
    ]
    results = [T(name, shape, case.dtype) for case in cases for name, shape in zip(case.results(), case.outputs, strict=True)]
    return model(tensors, [case.node() for case in cases], [result.name for result in results], tensors=results, constants=constants)


def to_int8(array: np.ndarray, scale: Any = IN_SCALE, zero: int = IN_ZERO) -> np.ndarray:
    return np.clip(np.round(array / scale) + zero, -128, 127).astype(np.int8)


def quantized_arrays(cases: Sequence[Case]) -> Arrays:
    """What the int8 models are given."""
    return {name: to_int8(array) if array.dtype == np.float32 else array for name, array in arrays(cases).items()}


def in_int8(cases: Sequence[Case], results: Mapping[str, np.ndarray]) -> bytes:
    """`results` are those of the float models."""
    tensors, constants, ends = [], [], []
    for case in cases:
        weight_scale: Any = None
        for index, array in enumerate(case.inputs):
            name = f"{case.name}.{index}"
            if array is None:
                continue
            if index in case.fed:
                quantized = array.dtype == np.float32
                tensors.append(T(name, array.shape, "int8", IN_SCALE, IN_ZERO) if quantized else T(name, array.shape, str(array.dtype)))
            elif array.dtype != np.float32:
                constants.append(C(name, array))
            elif index == BIAS.get(case.op):
                scale = weight_scale * IN_SCALE
                constants.append(C(name, np.round(array / scale).astype(np.int32), scale))
            elif case.op in BIAS:
                axis = CHANNELS.get(case.op)
                others = None if axis is None else tuple(other for other in range(array.ndim) if other != axis)
                weight_scale = np.maximum(np.abs(array).max(axis=others), 0.01) / 127
                spread = weight_scale if axis is None else np.expand_dims(weight_scale, others)
                constants.append(
                    C(name, to_int8(array, spread, 0), weight_scale, np.zeros(np.shape(weight_scale), int).tolist(), axis or 0)
                )
            else:
                constants.append(C(name, to_int8(array), IN_SCALE, IN_ZERO))
        for name, shape in zip(case.results(), case.outputs, strict=True):
            scale, zero = output_scale(case, results[name])
            ends.append(T(name, shape, "int8", scale, zero) if case.dtype == "float32" else T(name, shape, case.dtype))
    return model(tensors, [case.node() for case in cases], [end.name for end in ends], tensors=ends, constants=constants)


def output_scale(case: Case, result: np.ndarray) -> tuple[float, int]:
    if case.op in SAME_SCALE:
        return IN_SCALE, IN_ZERO
    if case.op in FIXED:
        return FIXED[case.op]
    low, high = min(float(result.min()), 0.0), max(float(result.max()), 0.0)
    scale = max(high - low, 0.01) / 255
    return scale, int(np.clip(np.round(-128 - low / scale), -128, 127))
