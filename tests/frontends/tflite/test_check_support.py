"""What cannot be compiled is refused, every node at once, each with its reason."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stack.errors import BadModel, UnsupportedOp
from stack.frontends.tflite import load
from stack.frontends.tflite.check_support import check_support
from stack.frontends.tflite.read import read
from tests.frontends.tflite.build import C, Op, T, graph, model, op

FLOATS, EIGHT = T("x", (1, 4, 4, 2)), T("x", (1, 4, 4, 2), "int8", 0.5)
SAME = {"padding": "SAME", "stride_h": 1, "stride_w": 1}


def refusal(data: bytes) -> str:
    with pytest.raises(UnsupportedOp) as error:
        load(data, {})
    return str(error.value)


def one(node: Op, *tensors: T, x: T = FLOATS, outputs: tuple[str, ...] = ("y",)) -> bytes:
    """A model of one operator from x to y; of `tensors`, those with a value are constants."""
    constants = [tensor for tensor in tensors if tensor.data]
    results = [tensor for tensor in tensors if not tensor.data]
    return model([x], [node], outputs, tensors=results, constants=constants)


def test_all_are_listed_with_their_names() -> None:
    nodes = [op("WHERE", ["x"], ["a"]), op("Frobnicate", ["x"], ["b"]), op("RELU", ["x"], ["y"]), op("WHILE", ["x"], ["c"])]
    data = model([FLOATS], nodes, ["y"], tensors=[T(name, (1, 4, 4, 2)) for name in "abcy"])
    assert refusal(data) == (
        "error: 3 operators are not supported here: Frobnicate, WHERE, WHILE\n"
        "  at: the bytes\n"
        "    WHERE (output 'a'): the shape of its result depends on its input's values\n"
        "    Frobnicate (output 'b'): not known\n"
        "    WHILE (output 'c'): its branches or its body would run as the values ask, and a model is compiled as a straight line\n"
        "  hint: cut the model before them, or convert it without them"
    )


Y, Y8 = T("y", (1, 4, 4, 2)), T("y", (1, 4, 4, 2), "int8", 0.5)
W, B = C("w", np.ones((2, 1, 1, 2), np.float32)), C("b", np.ones(2, np.float32))
W8 = C("w", np.ones((2, 1, 1, 2), np.int8), 0.5)
Q, QN = np.ones((2, 4), np.int8), np.ones(2, np.int32)


def ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


REASONS: dict[str, tuple[bytes, str]] = {
    "random": (one(op("RANDOM_UNIFORM", ["x"], ["y"]), Y), "it is random"),
    "string": (one(op("RELU", ["s"], ["y"]), T("s", (1, 4, 4, 2), "string"), Y), "element type string of 's' is not compiled"),
    "complex": (
        one(op("ABS", ["x"], ["c"]), T("c", (1, 4, 4, 2), "complex64"), outputs=("x",)),
        "element type complex64 of 'c' is not compiled",
    ),
    "zero scale": (one(op("RELU", ["x"], ["y"]), T("y", (1, 4, 4, 2), "int8", 0.0), x=EIGHT), "the scale of 'y' is zero"),
    "per channel": (
        one(op("RELU", ["x"], ["y"]), T("y", (1, 4, 4, 2), "int8", [0.5, 1.0], axis=3), x=EIGHT),
        "'y' is quantised per channel, which only weights can be",
    ),
    "uint8": (
        one(op("RELU", ["x"], ["y"]), T("y", (1, 4, 4, 2), "uint8", 0.5), x=EIGHT),
        "'y' is quantised to uint8, which TFLite has replaced by int8: convert the model again",
    ),
    "no scale": (one(op("RELU", ["x"], ["y"]), T("y", (1, 4, 4, 2), "int8"), x=EIGHT), "'y' is int8 without a scale"),
    "hybrid product": (
        one(op("BATCH_MATMUL", ["x", "w"], ["y"]), C("w", np.ones((2, 2), np.int8), 0.5), Y),
        "its weights 'w' are int8 and its activations float32, which would be quantised anew in each run:"
        " convert the model with all in int8, or all in float32",
    ),
    "hybrid zero point": (
        one(op("CONV_2D", ["x", "w"], ["y"], **SAME), C("w", np.ones((2, 1, 1, 2), np.int8), 0.5, 3), Y),
        "its weights 'w' have a zero point and its activations are float32",
    ),
    "missing input": (one(op("ADD", ["x", None], ["y"]), Y), "its input 1 is missing"),
    "axis": (one(op("SUM", ["x", "a"], ["y"]), C("a", ints(7)), Y), "its axis 7 is beyond the 4 dimensions that there are"),
    "computed": (
        model([FLOATS, T("a", (1,), "int32")], [op("SUM", ["x", "a"], ["y"])], ["y"], tensors=[Y]),
        "its input 'a' is computed, and only a constant can be compiled",
    ),
    "shape": (one(op("RELU", ["x"], ["y"]), T("y", (4, 4))), "its result becomes [1, 4, 4, 2] where the file has [4, 4]"),
    "dtype": (one(op("RELU", ["x"], ["y"]), T("y", (1, 4, 4, 2), "int32")), "its result becomes float32 where the file has int32"),
    "results": (one(op("RELU", ["x"], ["y", "z"]), Y, T("z", (1,))), "it has 2 results, not 1"),
    "activation": (one(op("ADD", ["x", "x"], ["y"], fused_activation_function=9), Y), "activation 9 is not known"),
    "strides": (
        one(op("CONV_2D", ["x", "w", "b"], ["y"], padding="SAME", stride_h=0, stride_w=1), W, B, Y),
        "its strides [0, 1] and dilation [1, 1] must be positive",
    ),
    "channels": (
        one(op("CONV_2D", ["x", "w"], ["y"], **SAME), C("w", np.ones((2, 1, 1, 3), np.float32)), Y),
        "2 channels and 2 filters over 3 of them do not fit",
    ),
    "rank": (
        one(op("CONV_2D", ["x", "w"], ["y"], **SAME), C("w", Q.astype("f")), Y),
        "its input 'w' has 2 dimensions, and 4 can be compiled",
    ),
    "depthwise": (
        one(op("DEPTHWISE_CONV_2D", ["x", "w"], ["y"], **SAME), W, Y),
        "its weights of shape [2, 1, 1, 2] do not fit 2 channels",
    ),
    "bias": (
        one(op("CONV_2D", ["x", "w", "b"], ["y"], **SAME), W8, C("b", np.ones(2, bool)), Y8, x=EIGHT),
        "its bias 'b' is bool",
    ),
    "wide bias": (
        one(op("CONV_2D", ["x", "w", "b"], ["y"], **SAME), W8, C("b", np.array([1 << 40, 0])), Y8, x=EIGHT),
        "its bias 'b' needs more than 32 bits",
    ),
    "shuffled": (
        one(op("FULLY_CONNECTED", ["x", "w"], ["y"], weights_format=1), C("w", Q.astype("f")), Y),
        "its weights are stored shuffled",
    ),
    "rows": (
        one(op("FULLY_CONNECTED", ["x", "w"], ["y"]), C("w", np.ones((2, 5), np.float32)), Y),
        "an input of shape [1, 4, 4, 2] has no rows of 5",
    ),
    "transposed": (
        one(op("TRANSPOSE_CONV", ["s", "w", "x"], ["y"], **SAME), C("s", ints(1, 9, 9, 2)), W, Y),
        "a result of shape [1, 9, 9, 2] does not fit its input and weights",
    ),
    "transposed strides": (
        one(op("TRANSPOSE_CONV", ["s", "w", "x"], ["y"], padding="SAME"), C("s", ints(1, 4, 4, 2)), W, Y),
        "its strides [0, 0] must be positive",
    ),
    "window": (one(op("MAX_POOL_2D", ["x"], ["y"]), Y), "its window [0, 0] and strides [0, 0] must be positive"),
    "integer division": (one(op("DIV", ["x", "x"], ["y"]), Y8, x=EIGHT), "a division of int8 is not compiled, only that of float32"),
    "running sum": (
        one(op("CUMSUM", ["x", "a"], ["y"]), C("a", ints(0)), T("y", (2000,)), x=T("x", (2000,))),
        "a running sum of 2000 elements is not compiled, only up to 1024",
    ),
    "dequantize": (one(op("DEQUANTIZE", ["x"], ["y"]), Y), "its input 'x' is float32 without a scale"),
    "quantize": (one(op("QUANTIZE", ["x"], ["y"]), T("y", (1, 4, 4, 2), "int8")), "its input 'x' or its result has no scale"),
    "quantize to int64": (one(op("QUANTIZE", ["x"], ["y"]), T("y", (1, 4, 4, 2), "int64", 0.5)), "its result is int64"),
    "reshape": (
        one(op("RESHAPE", ["x", "s"], ["y"]), C("s", ints(3, -1)), Y),
        "an input of shape [1, 4, 4, 2] cannot have the shape [3, -1]",
    ),
    "squeeze": (
        one(op("SQUEEZE", ["x"], ["y"], squeeze_dims=[1]), Y),
        "it drops dimensions [1] of [1, 4, 4, 2], which are not all 1",
    ),
    "order": (one(op("TRANSPOSE", ["x", "p"], ["y"]), C("p", ints(0, 0, 1, 2)), Y), "[0, 0, 1, 2] is no order of its 4 dimensions"),
    "extents": (one(op("BROADCAST_TO", ["x", "s"], ["y"]), C("s", ints(-4, 2)), Y), "[-4, 2] is no shape"),
    "tile": (
        one(op("TILE", ["x", "s"], ["y"]), C("s", ints(0, 2)), Y),
        "repeats of [0, 2] do not fit its input of shape [1, 4, 4, 2]",
    ),
    "strided slice": (
        one(op("STRIDED_SLICE", ["x", "b", "e", "s"], ["y"]), C("b", ints(0)), C("e", ints(1)), C("s", ints(0)), Y),
        "its begin [0], end [1] and strides [0] do not fit",
    ),
    "many slices": (
        one(op("STRIDED_SLICE", ["x", "b", "e", "s"], ["y"]), C("b", ints(*[0] * 5)), C("e", ints(*[1] * 5)), C("s", ints(*[1] * 5)), Y),
        "it slices 5 dimensions where there are 4",
    ),
    "slice": (
        one(op("SLICE", ["x", "b", "s"], ["y"]), C("b", ints(0)), C("s", ints(1)), Y),
        "its begin [0] and size [1] do not fit its input of shape [1, 4, 4, 2]",
    ),
    "part": (
        one(op("SLICE", ["x", "b", "s"], ["y"]), C("b", ints(0, 0, 3, 0)), C("s", ints(1, 1, 2, 1)), Y),
        "a part of size [1, 1, 2, 1] at [0, 0, 3, 0] is not inside its input of shape [1, 4, 4, 2]",
    ),
    "split": (
        one(op("SPLIT_V", ["x", "n", "a"], ["y"]), C("n", ints(3)), C("a", ints(1)), Y),
        "parts of [3] are no split of dimension 1 of [1, 4, 4, 2]",
    ),
    "concatenation": (
        one(op("CONCATENATION", ["x", "x"], ["y"], axis=0), T("y", (2, 4, 4, 2), "int8", 0.25), x=EIGHT),
        "its input 'x' has another scale than its result, which TFLite does not define",
    ),
    "gather": (
        one(op("GATHER", ["x", "i"], ["y"], axis=1, batch_dims=1), C("i", ints([0])), Y),
        "its batch dimensions are not compiled",
    ),
    "pad": (
        one(op("PAD", ["x", "p"], ["y"]), C("p", ints([1, 1])), Y),
        "it pads by [[1, 1]], which does not fit its input of shape [1, 4, 4, 2]",
    ),
    "mirror": (
        one(op("MIRROR_PAD", ["x", "p"], ["y"], mode="REFLECT"), C("p", ints([0, 0], [4, 0], [0, 0], [0, 0])), Y),
        "it mirrors 4 elements of a dimension of 4",
    ),
    "block size": (one(op("SPACE_TO_DEPTH", ["x"], ["y"]), Y), "its block size 0 must be positive"),
    "blocks": (one(op("SPACE_TO_DEPTH", ["x"], ["y"], block_size=3), Y), "blocks of 3 do not divide 4 x 4"),
    "depth": (one(op("DEPTH_TO_SPACE", ["x"], ["y"], block_size=2), Y), "blocks of 2 x 2 do not divide 2 channels"),
    "batch blocks": (
        one(op("SPACE_TO_BATCH_ND", ["x", "b", "p"], ["y"]), C("b", ints(3)), C("p", ints([0, 0])), Y),
        "blocks of [3] do not divide [4]",
    ),
    "block options": (
        one(op("SPACE_TO_BATCH_ND", ["x", "b", "p"], ["y"]), C("b", ints(0)), C("p", ints([0, 0])), Y),
        "its blocks [0] and borders [[0, 0]] do not fit its input of shape [1, 4, 4, 2]",
    ),
    "batch to space": (
        one(op("BATCH_TO_SPACE_ND", ["x", "b", "p"], ["y"]), C("b", ints(2)), C("p", ints([0, 0])), Y),
        "its blocks [2] and borders [(0, 0)] do not fit its input of shape [1, 4, 4, 2]",
    ),
    "size": (one(op("RESIZE_BILINEAR", ["x", "s"], ["y"]), C("s", ints(0, 2)), Y), "[0, 2] is no size of an image"),
    "matrix": (
        one(op("BATCH_MATMUL", ["x", "w"], ["y"]), C("w", np.ones(2, np.float32)), Y),
        "its input 'w' is no matrix",
    ),
    "variable": (
        model([FLOATS], [op("ABS", ["x"], ["r"]), op("READ_VARIABLE", ["r"], ["y"])], ["y"], tensors=[T("r", (), "resource"), Y]),
        "its variable is not one that VAR_HANDLE names",
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_a_node_is_refused_with_its_reason(name: str) -> None:
    data, reason = REASONS[name]
    assert f": {reason}\n  hint: " in refusal(data)


@pytest.mark.parametrize(("dtype", "kind"), [("string", "string"), ("complex64", "complex64"), ("resource", "resource")])
def test_inputs_and_outputs_are_tensors_of_numbers(dtype: str, kind: str) -> None:
    with pytest.raises(BadModel, match=f"input 'x' has element type {kind}\n"):
        load(one(op("RELU", ["x"], ["y"]), Y, x=T("x", (1, 4, 4, 2), dtype)), {})
    with pytest.raises(BadModel, match=f"output 'y' has element type {kind}\n"):
        load(one(op("RELU", ["x"], ["y"]), T("y", (1, 4, 4, 2), dtype)), {})


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [("h", UnsupportedOp, r"ABS \(output 'h'\): 'h' is stored sparse"), ("y", BadModel, "output 'y' is stored sparse")],
)
def test_sparse_tensors_are_refused(name: str, kind: type[Exception], text: str) -> None:
    h = T("h", (1, 4, 4, 2))
    source = read(model([FLOATS], [op("ABS", ["x"], ["h"]), op("RELU", ["h"], ["y"])], ["y"], tensors=[h, Y]))
    tensors = [replace(tensor, sparse=tensor.name == name) for tensor in source.main.tensors]
    with pytest.raises(kind, match=text):
        check_support(replace(source, graphs=[replace(source.main, tensors=tensors)]))


def variables(first: np.ndarray, *more: Op, position: int = 1) -> bytes:
    start = graph(
        [],
        [op("VAR_HANDLE", [], ["r"], shared_name="v"), op("ASSIGN_VARIABLE", ["r", "first"], []), *more],
        [],
        tensors=[T("r", (), "resource"), T("g", first.shape)],
        constants=[C("first", first)],
    )
    nodes = [
        op("CALL_ONCE", [], [], init_subgraph_index=position),
        op("VAR_HANDLE", [], ["r"], shared_name="v"),
        op("READ_VARIABLE", ["r"], ["y"]),
        op("ASSIGN_VARIABLE", ["r", "x"], []),
    ]
    return model([FLOATS], nodes, ["y"], tensors=[T("r", (), "resource"), Y], subgraphs=[start])


def test_the_first_value_of_a_variable_must_be_known() -> None:
    data = variables(np.ones((1, 4, 4, 2), np.float32), op("RELU", ["first"], ["g"]))
    assert "RELU (output 'g'): it computes the first value of a variable" in refusal(data)


def test_the_graph_that_starts_variables_must_be_there() -> None:
    with pytest.raises(BadModel, match="CALL_ONCE runs graph 7, which is not there"):
        load(variables(np.ones((1, 4, 4, 2), np.float32), position=7), {})


def test_a_variable_starts_as_what_it_is_used_as() -> None:
    with pytest.raises(BadModel, match=r"the variable 'v' starts as float32\[3\] and is used as float32\[1, 4, 4, 2\]"):
        load(variables(np.ones(3, np.float32)), {})


def test_a_variable_keeps_its_shape() -> None:
    nodes = [op("VAR_HANDLE", [], ["r"], shared_name="v"), op("READ_VARIABLE", ["r"], ["y"]), op("ASSIGN_VARIABLE", ["r", "x"], [])]
    data = model([T("x", (3,))], nodes, ["y"], tensors=[T("r", (), "resource"), Y])
    assert "it writes float32[3] to 'v', which is" in refusal(data)
