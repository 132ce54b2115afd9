"""The options of each operator, read from its flatbuffer table into a dict.

    Conv2DOptions {padding: SAME, stride_w: 2, ...}   ->   {"padding": 0, "stride_w": 2, ..., "fused_activation_function": 1}

An operator whose table is left out has the schema's defaults.
"""

import re
import struct
from typing import Any

import numpy as np
import tflite

Options = dict[str, Any]
BINARY_MATH = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div"}
REDUCTIONS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL")
TABLES: dict[str, str] = {
    **BINARY_MATH,
    **dict.fromkeys(REDUCTIONS, "Reducer"),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"), "Pool2D"),
    "ARG_MAX": "ArgMax",
    "ARG_MIN": "ArgMin",
    "BATCH_MATMUL": "BatchMatMul",
    "CALL_ONCE": "CallOnce",
    "CAST": "Cast",
    "CONCATENATION": "Concatenation",
    "CONV_2D": "Conv2D",
    "CUMSUM": "Cumsum",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
    "DEPTH_TO_SPACE": "DepthToSpace",
    "FULLY_CONNECTED": "FullyConnected",
    "GATHER": "Gather",
    "GELU": "Gelu",
    "L2_NORMALIZATION": "L2Norm",
    "LEAKY_RELU": "LeakyRelu",
    "MIRROR_PAD": "MirrorPad",
    "PACK": "Pack",
    "RESHAPE": "Reshape",
    "RESIZE_BILINEAR": "ResizeBilinear",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighbor",
    "SHAPE": "Shape",
    "SOFTMAX": "Softmax",
    "SPACE_TO_DEPTH": "SpaceToDepth",
    "SPLIT": "Split",
    "SPLIT_V": "SplitV",
    "SQUEEZE": "Squeeze",
    "STRIDED_SLICE": "StridedSlice",
    "SVDF": "SVDF",
    "TRANSPOSE_CONV": "TransposeConv",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
    "UNPACK": "Unpack",
    "VAR_HANDLE": "VarHandle",
}
EMPTY = struct.pack("<HHi", 4, 4, 4)  # a table without fields, whose vtable lies before it


def read_options(op: str, operator: Any) -> Options:
    """The options of `operator`, which is one of `op`. Raises ValueError where the file gives it those of another."""
    if op not in TABLES:
        return {}
    name = f"{TABLES[op]}Options"
    table, given = getattr(tflite, name)(), operator.BuiltinOptions()
    if given is None:
        table.Init(EMPTY, 4)
    elif operator.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, name):
        raise ValueError(f"{op} has the options of another operator")
    else:
        table.Init(given.Bytes, given.Pos)
    return {snake_case(field): read_field(table, field) for field in fields(type(table))}


def fields(table: type) -> list[str]:
    """The accessors of a generated class that are fields of the schema."""
    inherited = re.compile(r"Init|GetRootAs.*|.*(BufferHasIdentifier|AsNumpy|Length|IsNone)")
    return [name for name in vars(table) if name[0].isupper() and not inherited.fullmatch(name)]


def read_field(table: Any, field: str) -> Any:
    if hasattr(table, f"{field}AsNumpy"):
        return [int(item) for item in np.atleast_1d(getattr(table, f"{field}AsNumpy")())] if getattr(table, f"{field}Length")() else []
    value = getattr(table, field)()
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
