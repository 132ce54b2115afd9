"""Each common ONNX operator, compiled, computes what ONNX Runtime computes: whole path, many operators a model."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import stack
from tests.models.operators import Case, side_by_side

onnxruntime = pytest.importorskip("onnxruntime")


def floats(*shape: int, dtype: Any = np.float32, low: float = -2, high: float = 2) -> np.ndarray:
    return np.random.default_rng(abs(hash(shape)) % 1000).uniform(low, high, shape).astype(dtype)


def ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


def scalar(value: Any, dtype: Any = np.float32) -> np.ndarray:
    return np.array(value, dtype)


def distinct(*shape: int) -> np.ndarray:
    """No two values alike, so that an order is unique."""
    return np.random.default_rng(5).permutation(int(np.prod(shape))).astype(np.float32).reshape(shape)


IMAGE, ROWS, ONE_D, VOLUME = floats(1, 4, 9, 8), floats(3, 5), floats(2, 4, 11), floats(1, 2, 5, 6, 4)
BIAS = floats(6)
SMALL = floats(2, 3, 4)
BOOLS = np.random.default_rng(0).random((2, 3, 4)) > 0.5


def conv(name: str, x: np.ndarray, w: np.ndarray, op: str = "Conv", bias: np.ndarray | None = None, **attributes: Any) -> Case:
    return Case(name, op, (x, w) if bias is None else (x, w, bias), attributes)


CONVOLUTIONS = [
    conv("conv_bias_pads", IMAGE, floats(6, 4, 3, 3), bias=BIAS, pads=[1, 0, 2, 1]),
    conv("conv_strided", IMAGE, floats(6, 4, 3, 2), strides=[2, 3]),
    conv("conv_dilated", IMAGE, floats(6, 4, 3, 3), dilations=[2, 1]),
    conv("conv_grouped", IMAGE, floats(6, 2, 3, 3), group=2),
    conv("conv_depthwise", IMAGE, floats(4, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    conv("conv_same_upper", IMAGE, floats(6, 4, 4, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    conv("conv_same_lower", IMAGE, floats(6, 4, 4, 3), auto_pad="SAME_LOWER", strides=[2, 1]),
    conv("conv_same_wide_stride", IMAGE, floats(6, 4, 2, 1), auto_pad="SAME_UPPER", strides=[3, 3]),
    conv("conv_valid", IMAGE, floats(6, 4, 2, 2), auto_pad="VALID"),
    conv("conv_1d", ONE_D, floats(6, 4, 3), bias=BIAS, pads=[2, 0], strides=[2]),
    conv("conv_1d_grouped_dilated", ONE_D, floats(6, 2, 3), group=2, dilations=[3]),
    conv("conv_3d", VOLUME, floats(3, 2, 2, 3, 2), strides=[1, 2, 1], pads=[1, 0, 0, 0, 1, 1]),
    conv("transposed", IMAGE, floats(4, 3, 3, 3), "ConvTranspose", bias=floats(3)),
    conv("transposed_strided", IMAGE, floats(4, 3, 3, 3), "ConvTranspose", strides=[2, 3], pads=[1, 0, 1, 1], output_padding=[1, 2]),
    conv("transposed_grouped", IMAGE, floats(4, 3, 2, 2), "ConvTranspose", group=2, strides=[2, 2]),
    conv("transposed_dilated", IMAGE, floats(4, 3, 2, 3), "ConvTranspose", dilations=[2, 2]),
    conv("transposed_same", IMAGE, floats(4, 3, 3, 3), "ConvTranspose", auto_pad="SAME_UPPER", strides=[2, 2]),
    conv("transposed_output_shape", IMAGE, floats(4, 3, 3, 3), "ConvTranspose", output_shape=[18, 17], strides=[2, 2]),
    conv("transposed_1d", ONE_D, floats(4, 2, 4), "ConvTranspose", strides=[2]),
    conv("transposed_3d", VOLUME, floats(2, 2, 2, 2, 2), "ConvTranspose", strides=[2, 1, 2]),
]

POOLS = [
    Case("max", "MaxPool", (IMAGE,), {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    Case("max_ceil", "MaxPool", (IMAGE,), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    Case("max_ceil_pads", "MaxPool", (IMAGE,), {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    Case("max_dilated", "MaxPool", (IMAGE,), {"kernel_shape": [2, 2], "dilations": [3, 2]}),
    Case("max_same_upper", "MaxPool", (IMAGE,), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Case("max_same_lower", "MaxPool", (IMAGE,), {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    Case("max_1d", "MaxPool", (ONE_D,), {"kernel_shape": [3], "strides": [2]}),
    Case("max_3d", "MaxPool", (VOLUME,), {"kernel_shape": [2, 3, 2], "strides": [2, 1, 1]}),
    Case("average", "AveragePool", (IMAGE,), {"kernel_shape": [3, 3], "strides": [2, 1]}),
    Case("average_pads", "AveragePool", (IMAGE,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    Case("average_pads_counted", "AveragePool", (IMAGE,), {"kernel_shape": [3, 3], "pads": [1, 0, 2, 1], "count_include_pad": 1}),
    Case("average_ceil", "AveragePool", (IMAGE,), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    Case("average_ceil_pads", "AveragePool", (IMAGE,), {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    Case(
        "average_ceil_counted", "AveragePool", (IMAGE,),
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1, "count_include_pad": 1},
    ),
    Case("average_same", "AveragePool", (IMAGE,), {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Case("average_1d", "AveragePool", (ONE_D,), {"kernel_shape": [4], "strides": [3]}),
    Case("average_3d", "AveragePool", (VOLUME,), {"kernel_shape": [2, 2, 2], "pads": [0, 1, 1, 0, 1, 1]}),
    Case("lp", "LpPool", (IMAGE,), {"kernel_shape": [2, 3], "strides": [2, 2], "p": 2}),
    Case("global_average", "GlobalAveragePool", (IMAGE,)),
    Case("global_max", "GlobalMaxPool", (IMAGE,)),
    Case("global_average_3d", "GlobalAveragePool", (VOLUME,)),
]  # fmt: skip

MATRICES = [
    Case("gemm", "Gemm", (ROWS, floats(5, 7), floats(7))),
    Case("gemm_transposed", "Gemm", (ROWS, floats(6, 3), floats(5, 1)), {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("gemm_no_bias", "Gemm", (ROWS, floats(5, 4))),
    Case("gemm_row_bias", "Gemm", (ROWS, floats(5, 4), floats(1, 4)), {"beta": 0.25}),
    Case("gemm_two_inputs", "Gemm", (ROWS, floats(5, 4)), fed=(0, 1)),
    Case("matmul", "MatMul", (SMALL, floats(4, 5))),
    Case("matmul_batched", "MatMul", (floats(2, 1, 3, 4), floats(5, 4, 2)), fed=(0, 1)),
    Case("matmul_vector_right", "MatMul", (SMALL, floats(4)), fed=(0, 1)),
    Case("matmul_vector_left", "MatMul", (floats(3), SMALL), fed=(0, 1)),
    Case("matmul_vectors", "MatMul", (floats(4), floats(4) + 1), fed=(0, 1)),
    Case("einsum", "Einsum", (floats(2, 3, 4), floats(2, 5, 4)), {"equation": "bik,bjk->bij"}, fed=(0, 1)),
    Case("einsum_attention", "Einsum", (floats(2, 3, 2, 4), floats(2, 5, 2, 4)), {"equation": "bqhd,bkhd->bhqk"}, fed=(0, 1)),
]

UNARY = [
    "Abs", "Atan", "Ceil", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish",
    "Neg", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Tanh", "ThresholdedRelu",
]  # fmt: skip
HALVES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997], np.float32)
ELEMENTWISE = [
    *(Case(f"unary_{op}", op, (SMALL,)) for op in UNARY),
    *(Case(f"unit_{op}", op, (floats(2, 3, low=-0.9, high=0.9),)) for op in ("Acos", "Asin", "Atanh", "Tan")),
    *(Case(f"positive_{op}", op, (floats(2, 3, low=1.1, high=4),)) for op in ("Acosh", "Asinh", "Log", "Reciprocal", "Sqrt")),
    Case("round_halves", "Round", (HALVES,)),
    Case("gelu_tanh", "Gelu", (SMALL,), {"approximate": "tanh"}),
    Case("leaky_slope", "LeakyRelu", (SMALL,), {"alpha": 0.3}),
    Case("elu_alpha", "Elu", (SMALL,), {"alpha": 0.3}),
    Case("celu", "Celu", (SMALL,), {"alpha": 0.5}),
    Case("hard_sigmoid", "HardSigmoid", (SMALL,), {"alpha": 0.3, "beta": 0.4}),
    Case("prelu", "PRelu", (IMAGE, floats(4, 1, 1))),
    Case("clip", "Clip", (SMALL, scalar(-0.5), scalar(0.7))),
    Case("clip_low", "Clip", (SMALL, scalar(-0.5))),
    Case("clip_high", "Clip", (SMALL, None, scalar(0.5))),
    Case("clip_int", "Clip", (ints(1, 5, 9), scalar(2, np.int64), scalar(7, np.int64))),
    Case("add_scalar", "Add", (SMALL, scalar(3))),
    Case("sub_broadcast", "Sub", (SMALL, floats(3, 1)), fed=(0, 1)),
    Case("mul_wider_second", "Mul", (floats(4), floats(2, 3, 4)), fed=(0, 1)),
    Case("div", "Div", (SMALL, floats(2, 3, 4, low=0.5, high=2)), fed=(0, 1)),
    Case("div_int", "Div", (ints(7, -7, 7, -7), ints(2, 2, -2, -2)), fed=(0, 1)),
    Case("mod_int", "Mod", (ints(7, -7, 7, -7), ints(3, 3, -3, -3)), fed=(0, 1)),
    Case("mod_float", "Mod", (SMALL, floats(2, 3, 4, low=0.5, high=2)), {"fmod": 1}, fed=(0, 1)),
    Case("pow", "Pow", (floats(2, 3, low=0.1), floats(2, 3)), fed=(0, 1)),
    Case("pow_square", "Pow", (SMALL, scalar(2))),
    Case("pow_int_exponent", "Pow", (SMALL, scalar(3, np.int64))),
    Case("max_three", "Max", (SMALL, floats(3, 4), floats(4)), fed=(0, 1, 2)),
    Case("min_two", "Min", (SMALL, floats(3, 1)), fed=(0, 1)),
    Case("sum_three", "Sum", (SMALL, floats(3, 4), floats(4)), fed=(0, 1, 2)),
    Case("mean_two", "Mean", (SMALL, floats(3, 1)), fed=(0, 1)),
    Case("less", "Less", (SMALL, floats(3, 4)), fed=(0, 1)),
    Case("greater_or_equal", "GreaterOrEqual", (SMALL, SMALL), fed=(0, 1)),
    Case("equal_int", "Equal", (ints(1, 2, 3), ints(3, 2, 1)), fed=(0, 1)),
    Case("and", "And", (BOOLS, BOOLS[:, ::-1].copy()), fed=(0, 1)),
    Case("or", "Or", (BOOLS, BOOLS[:, ::-1].copy()), fed=(0, 1)),
    Case("xor", "Xor", (BOOLS, BOOLS[:, ::-1].copy()), fed=(0, 1)),
    Case("not", "Not", (BOOLS,)),
    Case("where", "Where", (BOOLS, SMALL, floats(4)), fed=(0, 1, 2)),
    Case("where_scalar", "Where", (BOOLS, SMALL, scalar(-1e9)), fed=(0, 1)),
    Case("is_nan", "IsNaN", (np.array([1, np.nan, np.inf, -np.inf], np.float32),)),
    Case("pow_ints", "Pow", (ints(2, -3, 7), ints(10, 3, 0)), fed=(0, 1)),
    Case("is_positive_inf", "IsInf", (np.array([1, np.nan, np.inf, -np.inf], np.float32),), {"detect_negative": 0}),
    Case("is_inf", "IsInf", (np.array([1, np.nan, np.inf, -np.inf], np.float32),)),
    Case("cast_to_int", "Cast", (np.array([-2.7, -0.5, 0.5, 2.7], np.float32),), {"to": 7}),
    Case("cast_to_bool", "Cast", (np.array([-2.7, 0, 0.5], np.float32),), {"to": 9}),
    Case("cast_from_bool", "Cast", (BOOLS,), {"to": 1}),
    Case("cast_to_half", "Cast", (SMALL,), {"to": 10}),
    Case("double", "Tanh", (floats(2, 3, dtype=np.float64),)),
    Case("half", "Sigmoid", (floats(2, 3, dtype=np.float16),)),
]

REDUCE = ["ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"]
REDUCTIONS = [
    *(Case(f"axis_{op}", op, (SMALL, ints(1)), {"keepdims": 0}) for op in REDUCE),
    *(Case(f"all_{op}", op, (SMALL,), {"keepdims": 1}) for op in REDUCE),
    Case("log_sum", "ReduceLogSum", (floats(2, 3, low=0.1), ints(-1))),
    Case("two_axes", "ReduceMean", (IMAGE, ints(2, -1))),
    Case("any", "ReduceMax", (BOOLS, ints(1)), {"keepdims": 0}),
    Case("topk_ties", "TopK", (np.array([[1, 3, 3, 0, 3]], np.float32), ints(4)), outputs=2),
    Case("topk_ints", "TopK", (ints([4, 1, 9], [2, 8, 3]), ints(2)), {"axis": 1}, outputs=2),
    Case("no_axes", "ReduceSum", (SMALL,), {"noop_with_empty_axes": 1}),
    Case("to_scalar", "ReduceSum", (SMALL,), {"keepdims": 0}),
    Case("int_sum", "ReduceSum", (ints([1, 2], [3, 4]), ints(0))),
    Case("argmax", "ArgMax", (distinct(2, 3, 4),), {"axis": 1}),
    Case("argmax_flat", "ArgMax", (distinct(2, 3, 4),), {"axis": -1, "keepdims": 0}),
    Case("argmax_ties", "ArgMax", (np.array([[1, 3, 3, 0]], np.float32),), {"axis": 1}),
    Case("argmax_last_tie", "ArgMax", (np.array([[1, 3, 3, 0]], np.float32),), {"axis": 1, "select_last_index": 1}),
    Case("argmin", "ArgMin", (distinct(2, 3, 4),), {"axis": 0}),
    Case("topk", "TopK", (distinct(3, 6), ints(2)), outputs=2),
    Case("topk_smallest", "TopK", (distinct(3, 6), ints(3)), {"axis": 0, "largest": 0}, outputs=2),
    Case("cumsum", "CumSum", (SMALL, scalar(1, np.int64))),
    Case("cumsum_options", "CumSum", (SMALL, scalar(-1, np.int64)), {"exclusive": 1, "reverse": 1}),
    Case("softmax", "Softmax", (SMALL,), {"axis": 1}),
    Case("softmax_last", "Softmax", (SMALL * 40,)),
    Case("log_softmax", "LogSoftmax", (SMALL,)),
    Case("hardmax", "Hardmax", (distinct(2, 3, 4),), {"axis": 1}),
]

NORMALISATIONS = [
    Case("batch", "BatchNormalization", (IMAGE, floats(4), floats(4), floats(4), floats(4, low=0.5)), {"epsilon": 1e-3}),
    Case("layer", "LayerNormalization", (SMALL, floats(4), floats(4))),
    Case("layer_no_bias", "LayerNormalization", (SMALL, floats(4)), {"epsilon": 1e-3}),
    Case("layer_two_axes", "LayerNormalization", (SMALL, floats(3, 4), floats(3, 4)), {"axis": 1}),
    Case("instance", "InstanceNormalization", (IMAGE, floats(4), floats(4))),
    Case("instance_1d", "InstanceNormalization", (ONE_D, floats(4), floats(4))),
    Case("group", "GroupNormalization", (IMAGE, floats(4), floats(4)), {"num_groups": 2}),
    Case("lrn", "LRN", (IMAGE,), {"size": 3}),
    Case("lp", "LpNormalization", (SMALL,), {"axis": 1}),
    Case("mean_variance", "MeanVarianceNormalization", (IMAGE,)),
]

INDEX = [
    Case("slice", "Slice", (IMAGE, ints(1, 2), ints(8, 7), ints(2, 3))),
    Case("slice_steps", "Slice", (IMAGE, ints(8, 0), ints(-100, 100), ints(2, -1), ints(-2, 3))),
    Case("slice_negative", "Slice", (IMAGE, ints(-3), ints(2**62), ints(-1))),
    Case("gather", "Gather", (SMALL, ints([0, 2], [1, -1])), {"axis": 1}),
    Case("gather_scalar", "Gather", (SMALL, scalar(1, np.int64)), {"axis": 2}),
    Case("gather_ids", "Gather", (floats(7, 3), ints(1, 6, -2)), fed=(1,)),
    Case("gather_int32", "Gather", (floats(7, 3), np.array([1, 6, 0], np.int32)), fed=(1,)),
    Case("gather_elements", "GatherElements", (SMALL, ints([[0, 1, 2, -1]], [[1, 1, 0, 2]])), {"axis": 1}, fed=(0, 1)),
    Case("gather_nd", "GatherND", (SMALL, ints([0, 1], [1, -1])), fed=(0, 1)),
    Case("gather_nd_batch", "GatherND", (SMALL, ints([1], [0])), {"batch_dims": 1}, fed=(0, 1)),
    Case("scatter_elements", "ScatterElements", (ROWS, ints([1, 0, 2, -1, 1]), floats(1, 5)), fed=(0, 2)),
    Case("scatter_nd", "ScatterND", (ROWS, ints([1], [-3]), floats(2, 5)), fed=(0, 2)),
    Case("scatter_nd_elements", "ScatterND", (ROWS, ints([1, -1], [0, 2], [1, 4]), floats(3)), fed=(0, 2)),
    Case("concat", "Concat", (SMALL, floats(2, 1, 4), floats(2, 2, 4)), {"axis": -2}, fed=(0, 1, 2)),
    Case("split", "Split", (SMALL, ints(1, 3)), {"axis": -1}, outputs=2),
    Case("split_equal", "Split", (IMAGE,), {"axis": 3, "num_outputs": 2}, outputs=2),
    Case("split_uneven", "Split", (IMAGE,), {"axis": 2, "num_outputs": 2}, outputs=2),
    Case("expand", "Expand", (floats(3, 1), ints(2, 1, 4))),
    Case("expand_smaller", "Expand", (floats(2, 3, 4), ints(3, 1))),
    Case("tile", "Tile", (ROWS, ints(2, 3))),
    Case("reshape", "Reshape", (SMALL, ints(0, -1, 2))),
    Case("flatten", "Flatten", (IMAGE,), {"axis": 2}),
    Case("flatten_all", "Flatten", (SMALL,), {"axis": 0}),
    Case("squeeze", "Squeeze", (floats(1, 3, 1, 2), ints(2))),
    Case("squeeze_all", "Squeeze", (floats(1, 3, 1, 2),)),
    Case("unsqueeze", "Unsqueeze", (ROWS, ints(-1, 0))),
    Case("transpose", "Transpose", (SMALL,), {"perm": [2, 0, 1]}),
    Case("transpose_reverse", "Transpose", (SMALL,)),
    Case("pad", "Pad", (ROWS, ints(1, 0, 2, 1), scalar(3))),
    Case("pad_negative", "Pad", (ROWS, ints(0, -1, 2, -1))),
    Case("pad_axes", "Pad", (IMAGE, ints(1, 2), None, ints(-1))),
    Case("pad_reflect", "Pad", (IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 1)), {"mode": "reflect"}),
    Case("pad_edge", "Pad", (IMAGE, ints(0, 0, 1, 2, 0, 0, 3, 1)), {"mode": "edge"}),
    Case("pad_wrap", "Pad", (ROWS, ints(0, 1, 0, 2)), {"mode": "wrap"}),
    Case("one_hot", "OneHot", (ints(1, -1, 4, 0), scalar(4, np.int64), scalar([2, 5]))),
    Case("one_hot_axis", "OneHot", (ints([1, 2]), scalar(3, np.int64), scalar([0, 1])), {"axis": 1}),
    Case("depth_to_space", "DepthToSpace", (IMAGE,), {"blocksize": 2}),
    Case("depth_to_space_crd", "DepthToSpace", (IMAGE,), {"blocksize": 2, "mode": "CRD"}),
    Case("space_to_depth", "SpaceToDepth", (floats(1, 2, 4, 6),), {"blocksize": 2}),
    Case("trilu_upper", "Trilu", (floats(2, 4, 5), scalar(1, np.int64))),
    Case("trilu_lower", "Trilu", (floats(2, 4, 5),), {"upper": 0}),
    Case("eye_like", "EyeLike", (ROWS,), {"k": 1}),
    Case("constant_of_shape", "ConstantOfShape", (ints(2, 3),), fed=()),
    Case("range", "Range", (scalar(1), scalar(9), scalar(3)), fed=()),
]  # fmt: skip


def resized(name: str, x: np.ndarray, scales: Any = None, sizes: Any = None, roi: Any = None, **attributes: Any) -> Case:
    given = [
        None if value is None else np.array(value, kind) for value, kind in ((roi, np.float32), (scales, np.float32), (sizes, np.int64))
    ]
    return Case(name, "Resize", (x, *given), attributes)


UP, ODD = (1, 1, 2, 2), (1, 1, 1.6, 0.55)
TRANSFORMS = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
RESIZES = [
    *(resized(f"nearest_up_{t}", IMAGE, UP, mode="nearest", coordinate_transformation_mode=t) for t in TRANSFORMS),
    *(resized(f"linear_up_{t}", IMAGE, UP, mode="linear", coordinate_transformation_mode=t) for t in TRANSFORMS),
    *(resized(f"cubic_up_{t}", IMAGE, UP, mode="cubic", coordinate_transformation_mode=t) for t in TRANSFORMS),
    *(resized(f"nearest_odd_{t}", IMAGE, ODD, mode="nearest", coordinate_transformation_mode=t) for t in TRANSFORMS),
    *(resized(f"linear_odd_{t}", IMAGE, ODD, mode="linear", coordinate_transformation_mode=t) for t in TRANSFORMS),
    *(resized(f"cubic_odd_{t}", IMAGE, ODD, mode="cubic", coordinate_transformation_mode=t) for t in TRANSFORMS),
    *(
        resized(f"nearest_{rounding}", IMAGE, ODD, mode="nearest", nearest_mode=rounding, coordinate_transformation_mode="asymmetric")
        for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    ),
    resized("nearest_torch", IMAGE, UP, mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
    resized("sizes_linear", IMAGE, sizes=[1, 4, 7, 20], mode="linear"),
    resized("sizes_axes", IMAGE, sizes=[20, 7], mode="linear", axes=[3, 2]),
    resized("sizes_not_larger", IMAGE, sizes=[20, 15], axes=[2, 3], mode="linear", keep_aspect_ratio_policy="not_larger"),
    resized("linear_antialias", IMAGE, (1, 1, 0.4, 0.7), mode="linear", antialias=1),
    resized("cubic_antialias", IMAGE, (1, 1, 0.5, 0.7), mode="cubic", antialias=1, cubic_coeff_a=-0.5),
    resized("cubic_exclude", IMAGE, UP, mode="cubic", exclude_outside=1),
    resized("linear_1d", ONE_D, (1, 1, 2.5), mode="linear"),
    resized("linear_3d", VOLUME, (1, 1, 2, 1, 0.5), mode="linear"),
    resized(
        "crop", IMAGE, sizes=[1, 4, 5, 6], roi=[0, 0, 0.2, 0.4, 1, 1, 0.6, 1.2], mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=10.0,
    ),
]  # fmt: skip

OPSET_7 = [
    Case("upsample_none_batch", "BatchNormalization", (IMAGE, floats(4), floats(4), floats(4), floats(4, low=0.5))),
    Case("softmax_flat", "Softmax", (SMALL,)),
    Case("log_softmax_flat", "LogSoftmax", (SMALL,), {"axis": 1}),
    Case("slice", "Slice", (IMAGE,), {"starts": [1, -3], "ends": [8, 100], "axes": [2, 3]}),
    Case("slice_all_axes", "Slice", (ROWS,), {"starts": [1, 0], "ends": [3, 4]}),
    Case("pad", "Pad", (ROWS,), {"pads": [1, 0, 2, 1], "value": 3.0}),
    Case("clip", "Clip", (SMALL,), {"min": -0.5, "max": 0.7}),
    Case("clip_default", "Clip", (SMALL,)),
    Case("split", "Split", (SMALL,), {"axis": 2, "split": [1, 3]}, outputs=2),
    Case("split_equal", "Split", (SMALL,), {"axis": 2}, outputs=2),
    Case("squeeze", "Squeeze", (floats(1, 3, 1, 2),), {"axes": [2]}),
    Case("unsqueeze", "Unsqueeze", (ROWS,), {"axes": [0, 2]}),
    Case("reduce_sum", "ReduceSum", (SMALL,), {"axes": [1], "keepdims": 0}),
    Case("reduce_mean", "ReduceMean", (SMALL,), {"axes": [0, 2]}),
    Case("topk", "TopK", (distinct(3, 6),), {"k": 2, "axis": 1}, outputs=2),
    Case("dropout", "Dropout", (SMALL,), {"ratio": 0.3}),
    Case("upsample", "Upsample", (IMAGE,), {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}),
    Case("gemm", "Gemm", (ROWS, floats(5, 4), floats(4))),
    Case("average", "AveragePool", (IMAGE,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
]

OPSET_11 = [
    Case("softmax_middle", "Softmax", (IMAGE,), {"axis": 2}),
    resized("resize_nearest", IMAGE, UP, roi=[], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    resized(
        "resize_for_nn", IMAGE, ODD, roi=[], mode="nearest", coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode="floor"
    ),
    Case("hard_sigmoid", "HardSigmoid", (SMALL,)),
    Case("squeeze_negative", "Squeeze", (floats(1, 3, 1, 2),), {"axes": [-2]}),
    Case("reduce_max_negative", "ReduceMax", (SMALL,), {"axes": [-1]}),
    Case("clip", "Clip", (SMALL, scalar(0), scalar(6))),
    Case("pad", "Pad", (ROWS, ints(1, 0, 2, 1))),
]

OPSET_10 = [
    Case("resize", "Resize", (IMAGE, scalar([1, 1, 2, 2])), {"mode": "linear"}),
    Case("resize_nearest", "Resize", (IMAGE, scalar([1, 1, 1.6, 0.55])), {"mode": "nearest"}),
    Case("slice", "Slice", (IMAGE, ints(1), ints(8), ints(2), ints(3))),
    Case("topk", "TopK", (distinct(3, 6), ints(2)), {"axis": 0}, outputs=2),
]

GROUPS: dict[str, tuple[int, list[Case]]] = {
    "convolutions": (21, CONVOLUTIONS),
    "pools": (21, POOLS),
    "matrices": (21, MATRICES),
    "elementwise": (21, ELEMENTWISE),
    "reductions": (21, REDUCTIONS),
    "normalisations": (21, NORMALISATIONS),
    "index": (21, INDEX),
    "resizes": (19, RESIZES),
    "opset7": (7, OPSET_7),
    "opset10": (10, OPSET_10),
    "opset11": (11, OPSET_11),
}
EVERY = [(group, case.name) for group, (_, cases) in GROUPS.items() for case in cases]


@functools.cache
def outputs(group: str) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """What ours and ONNX Runtime make of a group, by output name."""
    opset, cases = GROUPS[group]
    model = side_by_side(cases, opset)
    feed = {name: array for case in cases for name, array in case.feed.items()}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in model.graph.output]
    return stack.compile(model, threads=1).run(feed), dict(zip(names, session.run(names, feed), strict=True))


@pytest.mark.parametrize(("group", "name"), EVERY, ids=[f"{group}-{name}" for group, name in EVERY])
def test_agrees_with_onnx_runtime(group: str, name: str) -> None:
    ours, theirs = outputs(group)
    case = next(case for case in GROUPS[group][1] if case.name == name)
    for output in case.output_names:
        got, want = ours[output], theirs[output]
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        if want.dtype.kind == "f":
            tolerance = 2e-3 if want.dtype == np.float16 else 2e-5
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(got, want)
