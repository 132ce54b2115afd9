"""Tensors that are only joined are written to their places at once; whatever could not be keeps its copy."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import stack
from stack.library import Library

Nodes = list[tuple[str, list[str], str, dict[str, object]]]


def model(nodes: Nodes, outputs: list[str], shape: tuple[int, ...] = (1, 4, 5, 5)) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **attributes) for kind, inputs, output, attributes in nodes],
        "joined",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pool(source: str, result: str, kind: str = "MaxPool", window: int = 2) -> tuple[str, list[str], str, dict[str, object]]:
    """Something that fuses with nothing behind it; one row and one column less than the image."""
    border = [window - 2, window - 2, 0, 0]
    return kind, [source], result, {"kernel_shape": [window, window], "pads": border, "strides": [1, 1]}


def join(sources: list[str], result: str, axis: int = 1) -> tuple[str, list[str], str, dict[str, object]]:
    return "Concat", sources, result, {"axis": axis}


PARTS = [pool("x", "a"), pool("x", "b", "AveragePool")]
CASES: dict[str, tuple[Nodes, list[str], int]] = {
    "two": ([*PARTS, join(["a", "b"], "c"), pool("c", "y")], ["y"], 0),
    "three, of which one is a join": (
        [
            pool("x", "a"),
            pool("x", "b", "AveragePool"),
            join(["a", "b"], "c"),
            pool("x", "d", window=3),
            join(["c", "d"], "e"),
            pool("e", "y"),
        ],
        ["y"],
        0,
    ),
    "parts that are read later": (
        [
            pool("x", "a"),
            pool("x", "b", "AveragePool"),
            join(["a", "b"], "c"),
            pool("c", "d"),
            pool("a", "e"),
            pool("b", "f"),
            pool("d", "y"),
        ],
        ["y", "e", "f"],
        0,
    ),
    "in two places": (
        [*PARTS, join(["a", "b"], "c"), join(["b", "a"], "d"), pool("c", "e"), pool("d", "y")],
        ["y", "e"],
        1,
    ),
    "a tensor twice, the input, an output, and side by side": (
        [
            *PARTS,
            *(join(["a", "a"], "c"), pool("c", "y")),
            *(join(["x", "x"], "d"), pool("d", "z")),
            join(["a", "b"], "u"),
            *(join(["a", "b"], "e", axis=3), pool("e", "w")),
        ],
        ["y", "z", "u", "w"],
        4,
    ),
}


def copies(library: Library) -> int:
    return sum("concat" in operator["kernel"] for operator in library.manifest["operators"])


@pytest.mark.parametrize("case", CASES)
def test_results_are_right_and_no_more_is_copied_than_must_be(case: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    nodes, outputs, left = CASES[case]
    network = model(nodes, outputs)
    library = stack.compile(network, "x86", threads=2)
    x = np.random.default_rng(0).standard_normal((1, 4, 5, 5)).astype(np.float32)
    expected = onnxruntime.InferenceSession(network.SerializeToString()).run(outputs, {"x": x})
    for _ in range(2):  # an arena is used again as it was left
        results = library.run({"x": x})
        for name, other in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(results[name], other, rtol=1e-5, atol=1e-6)
    assert copies(library) == left


@pytest.mark.parametrize(("shape", "left"), [((2, 4, 5, 5), 1), ((1, 3, 4, 4), 1)], ids=["a batch", "an odd size"])
def test_what_would_not_lie_in_one_piece_at_an_aligned_place_is_copied(shape: tuple[int, ...], left: int) -> None:
    nodes = [*PARTS, join(["a", "b"], "c"), pool("c", "y")]
    network = model(nodes, ["y"], shape)
    library = stack.compile(network, "x86", threads=1)
    onnxruntime = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(network.SerializeToString()).run(["y"], {"x": x})
    np.testing.assert_allclose(library.run({"x": x})["y"], expected, rtol=1e-5, atol=1e-6)
    assert copies(library) == left
