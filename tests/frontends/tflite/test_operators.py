"""Each TFLite operator, compiled for x86, computes what TFLite Micro computes: float to float rounding, int8 to one step.

The int8 models are computed in floats there; their exact integers are the business of the integer pass.
"""

from typing import Any

import numpy as np
import pytest

import stack
from tests.frontends.tflite.build import C, T, micro, model, op
from tests.frontends.tflite.operators import Case, arrays, in_float, in_int8, quantized_arrays, to_int8


def floats(*shape: int, low: float = -2, high: float = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + sum(shape)).uniform(low, high, shape).astype(np.float32)


def ints(*values: Any, dtype: Any = np.int32) -> np.ndarray:
    return np.array(values, dtype)


IMAGE, ROWS, FLAT = floats(1, 6, 5, 4), floats(3, 8), floats(2, 3, 4)
OTHER, POSITIVE = floats(2, 3, 4, seed=1), floats(2, 3, 4, low=0.1)
BOOLS, MORE = np.random.default_rng(0).random((2, 2, 3, 4)) > 0.5
SAME, VALID = {"padding": "SAME"}, {"padding": "VALID"}
UNIT = {"stride_h": 1, "stride_w": 1}
WINDOW = {"filter_height": 2, "filter_width": 3, "stride_h": 2, "stride_w": 1}


def case(
    name: str,
    op: str,
    inputs: tuple[Any, ...],
    *outputs: tuple[int, ...],
    fed: tuple[int, ...] = (0,),
    dtype: str = "float32",
    **options: Any,
) -> Case:
    return Case(name, op, inputs, outputs, options, fed, dtype)


def unary(op: str, array: np.ndarray = FLAT, dtype: str = "float32", **options: Any) -> Case:
    return case(op.lower(), op, (array,), array.shape, dtype=dtype, **options)


def binary(op: str, left: np.ndarray = FLAT, right: np.ndarray = OTHER, dtype: str = "float32", **options: Any) -> Case:
    return case(op.lower(), op, (left, right), np.broadcast_shapes(left.shape, right.shape), fed=(0, 1), dtype=dtype, **options)


LAYERS = [
    case("conv", "CONV_2D", (IMAGE, floats(3, 3, 2, 4), floats(3)), (1, 6, 5, 3), **SAME, **UNIT, fused_activation_function="RELU"),
    case("conv_strided", "CONV_2D", (IMAGE, floats(3, 3, 2, 4), floats(3)), (1, 2, 4, 3), **VALID, stride_h=2, stride_w=1),
    case("conv_dilated", "CONV_2D", (IMAGE, floats(3, 2, 2, 4), floats(3)), (1, 4, 4, 3), **VALID, **UNIT, dilation_h_factor=2),
    case(
        "conv_relu6",
        "CONV_2D",
        (IMAGE, floats(5, 1, 1, 4), floats(5)),
        (1, 3, 3, 5),
        **SAME,
        stride_h=2,
        stride_w=2,
        fused_activation_function="RELU6",
    ),
    case("depthwise", "DEPTHWISE_CONV_2D", (IMAGE, floats(1, 3, 3, 4), floats(4)), (1, 6, 5, 4), **SAME, **UNIT, depth_multiplier=1),
    case(
        "depthwise_2",
        "DEPTHWISE_CONV_2D",
        (IMAGE, floats(1, 3, 2, 8), floats(8)),
        (1, 3, 3, 8),
        **SAME,
        stride_h=2,
        stride_w=2,
        depth_multiplier=2,
    ),
    case(
        "transposed",
        "TRANSPOSE_CONV",
        (ints(1, 12, 10, 3), floats(3, 3, 3, 4), IMAGE),
        (1, 12, 10, 3),
        fed=(2,),
        **SAME,
        stride_h=2,
        stride_w=2,
    ),
    case(
        "transposed_valid",
        "TRANSPOSE_CONV",
        (ints(1, 13, 11, 3), floats(3, 3, 3, 4), IMAGE),
        (1, 13, 11, 3),
        fed=(2,),
        **VALID,
        stride_h=2,
        stride_w=2,
    ),
    case("dense", "FULLY_CONNECTED", (ROWS, floats(5, 8), floats(5)), (3, 5), fused_activation_function="RELU"),
    case("dense_no_bias", "FULLY_CONNECTED", (ROWS, floats(5, 8, seed=2), None), (3, 5)),
    case("dense_kept", "FULLY_CONNECTED", (floats(2, 3, 8), floats(5, 8, seed=3), floats(5)), (2, 3, 5), keep_num_dims=True),
    case("average", "AVERAGE_POOL_2D", (IMAGE,), (1, 3, 5, 4), **SAME, **WINDOW),
    case("average_valid", "AVERAGE_POOL_2D", (IMAGE,), (1, 3, 3, 4), **VALID, **WINDOW),
    case("maximum_pool", "MAX_POOL_2D", (IMAGE,), (1, 3, 5, 4), **SAME, **WINDOW),
    case("batch_matmul", "BATCH_MATMUL", (floats(2, 3, 4), floats(2, 4, 5)), (2, 3, 5), fed=(0, 1)),
    case("batch_matmul_turned", "BATCH_MATMUL", (floats(2, 3, 4), floats(2, 5, 4)), (2, 3, 5), fed=(0, 1), adj_y=True),
]
MATH = [
    binary("ADD", fused_activation_function="RELU"),
    case("add_broadcast", "ADD", (FLAT, floats(4)), (2, 3, 4)),
    binary("SUB"),
    binary("MUL"),
    binary("MAXIMUM"),
    binary("MINIMUM"),
    binary("SQUARED_DIFFERENCE"),
    unary("LOGISTIC"),
    unary("TANH"),
    unary("RELU"),
    unary("RELU6"),
    unary("HARD_SWISH"),
    unary("LEAKY_RELU", alpha=0.2),
    unary("ELU"),
    unary("ABS"),
    unary("RSQRT", POSITIVE),
    unary("SOFTMAX", ROWS, beta=1.0),
    unary("LOG_SOFTMAX", ROWS),
    unary("L2_NORMALIZATION", ROWS),
    case("prelu", "PRELU", (IMAGE, floats(1, 1, 4, low=0.1, high=0.3)), IMAGE.shape),
    case("mean", "MEAN", (IMAGE, ints(1, 2)), (1, 4)),
    case("mean_kept", "MEAN", (IMAGE, ints(1, 2)), (1, 1, 1, 4), keep_dims=True),
    case("mean_last", "MEAN", (IMAGE, ints(3)), (1, 6, 5)),
    case("sum", "SUM", (FLAT, ints(-1)), (2, 3)),
    case("reduce_max", "REDUCE_MAX", (FLAT, ints(1)), (2, 4)),
    case("reduce_min", "REDUCE_MIN", (FLAT, ints(2)), (2, 3)),
    case("arg_max", "ARG_MAX", (FLAT, ints(2)), (2, 3), dtype="int32"),
    case("arg_min", "ARG_MIN", (FLAT, ints(1)), (2, 4), dtype="int32"),
    case("bilinear", "RESIZE_BILINEAR", (IMAGE, ints(9, 11)), (1, 9, 11, 4), half_pixel_centers=True),
    case("bilinear_corners", "RESIZE_BILINEAR", (IMAGE, ints(11, 3)), (1, 11, 3, 4), align_corners=True),
    case("bilinear_plain", "RESIZE_BILINEAR", (IMAGE, ints(3, 10)), (1, 3, 10, 4)),
]
NEAR = np.where(BOOLS, FLAT, OTHER)  # equal to FLAT here and there
COMPARISONS = [binary(op, right=NEAR, dtype="bool") for op in ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")]
MOVES = [
    case("reshape", "RESHAPE", (FLAT, ints(4, -1)), (4, 6), new_shape=[4, -1]),
    case("squeeze", "SQUEEZE", (floats(1, 3, 1, 4),), (3, 4), squeeze_dims=[0, 2]),
    case("expand_dims", "EXPAND_DIMS", (FLAT, ints(1)), (2, 1, 3, 4)),
    case("transpose", "TRANSPOSE", (FLAT, ints(2, 0, 1)), (4, 2, 3)),
    case("concatenation", "CONCATENATION", (FLAT, OTHER), (2, 6, 4), fed=(0, 1), axis=1),
    case("split", "SPLIT", (ints(2), FLAT), (2, 3, 2), (2, 3, 2), fed=(1,), num_splits=2),
    case("split_v", "SPLIT_V", (FLAT, ints(1, 3), ints(2)), (2, 3, 1), (2, 3, 3), num_splits=2),
    case("slice", "SLICE", (FLAT, ints(0, 1, 1), ints(-1, 2, 2)), (2, 2, 2)),
    case("strided_slice", "STRIDED_SLICE", (FLAT, ints(0, 2, 1), ints(2, 0, 4), ints(1, -1, 2)), (2, 2, 2)),
    case(
        "strided_slice_masks",
        "STRIDED_SLICE",
        (FLAT, ints(1, 0, 2), ints(2, 2, 0), ints(1, 1, 1)),
        (3, 2),
        begin_mask=2,
        end_mask=6,
        shrink_axis_mask=1,
    ),
    case("gather", "GATHER", (FLAT, ints(2, 0)), (2, 2, 4), axis=1),
    case("gather_nd", "GATHER_ND", (FLAT, ints([1, 2], [0, 1])), (2, 4)),
    case("pack", "PACK", (FLAT, OTHER), (2, 2, 3, 4), fed=(0, 1), values_count=2, axis=1),
    case("unpack", "UNPACK", (FLAT,), (2, 4), (2, 4), (2, 4), num=3, axis=1),
    case("pad", "PAD", (IMAGE, ints([0, 0], [1, 2], [0, 1], [0, 0])), (1, 9, 6, 4)),
    case("mirror_pad", "MIRROR_PAD", (FLAT, ints([0, 0], [1, 2], [2, 0])), (2, 6, 6), mode="REFLECT"),
    case("symmetric_pad", "MIRROR_PAD", (FLAT, ints([0, 0], [1, 3], [2, 0])), (2, 7, 6), mode="SYMMETRIC"),
    case("space_to_depth", "SPACE_TO_DEPTH", (floats(1, 4, 6, 3),), (1, 2, 3, 12), block_size=2),
    case("depth_to_space", "DEPTH_TO_SPACE", (floats(1, 2, 3, 12),), (1, 4, 6, 3), block_size=2),
    case("space_to_batch", "SPACE_TO_BATCH_ND", (IMAGE, ints(2, 1), ints([0, 0], [0, 0])), (2, 3, 5, 4)),
    case("batch_to_space", "BATCH_TO_SPACE_ND", (floats(6, 4, 2, 4), ints(2, 3), ints([1, 1], [0, 1])), (1, 6, 5, 4)),
    case("nearest", "RESIZE_NEAREST_NEIGHBOR", (IMAGE, ints(12, 7)), (1, 12, 7, 4)),
    case("nearest_half", "RESIZE_NEAREST_NEIGHBOR", (IMAGE, ints(4, 9)), (1, 4, 9, 4), half_pixel_centers=True),
    case("nearest_corners", "RESIZE_NEAREST_NEIGHBOR", (IMAGE, ints(9, 3)), (1, 9, 3, 4), align_corners=True),
    case("broadcast_to", "BROADCAST_TO", (floats(3, 1), ints(2, 3, 4)), (2, 3, 4)),
    case("select_v2", "SELECT_V2", (BOOLS, FLAT, OTHER), (2, 3, 4), fed=(0, 1, 2)),
    case("reverse_v2", "REVERSE_V2", (FLAT, ints(1)), (2, 3, 4)),
]
FLOAT_ONLY = [
    binary("DIV", right=POSITIVE),
    binary("FLOOR_DIV", right=POSITIVE),
    binary("FLOOR_MOD", right=POSITIVE),
    unary("NEG"),
    unary("EXP"),
    unary("LOG", POSITIVE),
    unary("SQRT", POSITIVE),
    unary("SQUARE"),
    unary("SIN"),
    unary("COS"),
    unary("FLOOR"),
    unary("CEIL"),
    unary("ROUND"),
    unary("ZEROS_LIKE"),
    case("add_n", "ADD_N", (FLAT, OTHER, POSITIVE), (2, 3, 4), fed=(0, 1, 2)),
    case("padv2", "PADV2", (FLAT, ints([0, 0], [1, 0], [0, 2]), np.float32(0.5)), (2, 4, 6)),
    case("cumsum", "CUMSUM", (FLAT, ints(1)), (2, 3, 4)),
    case("cumsum_back", "CUMSUM", (FLAT, ints(1)), (2, 3, 4), exclusive=True, reverse=True),
    case("l2_pool", "L2_POOL_2D", (IMAGE,), (1, 3, 5, 4), **SAME, **WINDOW),
    case("fill", "FILL", (ints(2, 3), np.array(1.5, np.float32)), (2, 3), fed=(1,)),
    case("cast", "CAST", (FLAT,), (2, 3, 4), dtype="int32", in_data_type="FLOAT32", out_data_type="INT32"),
    case("shape", "SHAPE", (FLAT,), (3,), dtype="int32", out_type="INT32"),
    case("logical_and", "LOGICAL_AND", (BOOLS, MORE), BOOLS.shape, fed=(0, 1), dtype="bool"),
    case("logical_or", "LOGICAL_OR", (BOOLS, MORE), BOOLS.shape, fed=(0, 1), dtype="bool"),
    case("logical_not", "LOGICAL_NOT", (BOOLS,), BOOLS.shape, dtype="bool"),
    case("add_int32", "ADD", (ints(1, 2, 3), ints(4, 5, -6)), (3,), fed=(0, 1), dtype="int32"),
    case("embedding", "EMBEDDING_LOOKUP", (ints(2, 0), ROWS), (2, 8)),
]
QUANTIZABLE = {"layers": LAYERS, "math": MATH, "comparisons": COMPARISONS, "moves": MOVES}


def compiled(data: bytes, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return stack.compile(data, threads=2).run(given)


@pytest.mark.parametrize("cases", [*QUANTIZABLE.values(), FLOAT_ONLY], ids=[*QUANTIZABLE, "float_only"])
def test_float_operators_compute_what_tflite_micro_computes(cases: list[Case]) -> None:
    data, given = in_float(cases), arrays(cases)
    names = [name for item in cases for name in item.results()]
    want = dict(zip(names, micro(data, list(given.values())), strict=True))
    got = compiled(data, given)
    assert list(got) == names
    for name in names:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("cases", QUANTIZABLE.values(), ids=QUANTIZABLE)
def test_int8_operators_compute_what_tflite_micro_computes_to_one_step(cases: list[Case]) -> None:
    names = [name for item in cases for name in item.results()]
    reals = dict(zip(names, micro(in_float(cases), list(arrays(cases).values())), strict=True))
    data, given = in_int8(cases, reals), quantized_arrays(cases)
    want = dict(zip(names, micro(data, list(given.values())), strict=True))
    got = compiled(data, given)
    for name in names:
        assert got[name].dtype == want[name].dtype, name
        apart = np.abs(got[name].astype(int) - want[name].astype(int))
        assert apart.max() <= (0 if got[name].dtype == bool else 1), f"{name} is {apart.max()} steps apart"
        assert np.unique(want[name]).size > 1, f"{name} is one value, which proves nothing"


@pytest.mark.parametrize("zero", [None, 7])
def test_space_to_batch_pads_with_zeros(zero: int | None) -> None:
    """TFLite Micro takes what it pads with from memory that it never writes, so numpy is the reference."""
    image = IMAGE if zero is None else to_int8(IMAGE)
    meaning = ("float32",) if zero is None else ("int8", 0.5, zero)
    blocks, pads = C("b", ints(2, 3)), C("p", ints([1, 1], [0, 1]))
    node = op("SPACE_TO_BATCH_ND", ["x", "b", "p"], ["y"])
    data = model([T("x", image.shape, *meaning)], [node], ["y"], tensors=[T("y", (6, 4, 2, 4), *meaning)], constants=[blocks, pads])
    padded = np.pad(image, ((0, 0), (1, 1), (0, 1), (0, 0)), constant_values=zero or 0)
    want = padded.reshape(1, 4, 2, 2, 3, 4).transpose(2, 4, 0, 1, 3, 5).reshape(6, 4, 2, 4)
    (got,) = compiled(data, {"x": image}).values()
    np.testing.assert_array_equal(got, want)
