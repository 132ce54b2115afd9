"""Simplifying: what is known when compiling leaves the graph; what must run stays, with its numbers."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import stack
from stack.errors import BadModel
from stack.frontends.onnx.fix_shapes import fix_shapes
from stack.frontends.onnx.graph import Graph
from stack.frontends.onnx.read import read
from stack.frontends.onnx.simplify import simplify
from tests.models.build import model, tensor

node = helper.make_node


def simplified(proto: onnx.ModelProto, **shapes: Sequence[int]) -> Graph:
    source = read(proto)
    return simplify(source, fix_shapes(source.inputs, shapes, source.at))


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def test_computed_shapes_become_constants() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Concat", ["n", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    proto = model(nodes, [tensor("x", ("n", 3, 4))], ["y"], {"zero": np.array([0]), "rest": np.array([-1])})
    graph = simplified(proto, x=(2, 3, 4))
    assert ops(graph) == ["Reshape"]
    np.testing.assert_array_equal(graph.values["target"], [2, -1])
    assert graph.shape("y") == (2, 12)


def test_part_of_a_shape_and_the_size() -> None:
    nodes = [node("Shape", ["x"], ["s"], start=1, end=-1), node("Size", ["x"], ["n"]), node("Add", ["s", "n"], ["y"])]
    graph = simplified(model(nodes, [tensor("x", (2, 3, 4))], ["y"]))
    assert ops(graph) == []
    np.testing.assert_array_equal(graph.values["y"], [27])


def test_identity_and_dropout_vanish_and_masks_are_true() -> None:
    nodes = [
        node("Identity", ["x"], ["a"]),
        node("Dropout", ["a", "ratio", "training"], ["b", "mask"]),
        node("Relu", ["b"], ["y"]),
        node("Not", ["mask"], ["z"]),
    ]
    proto = model(nodes, [tensor("x", (2, 3))], ["y", "z"], {"ratio": np.float32(0.5), "training": np.array(True)})
    graph = simplified(proto)
    assert ops(graph) == ["Relu"]
    assert not graph.values["z"].any()


def test_batch_normalization_left_in_training_uses_its_statistics() -> None:
    names = ["s", "b", "m", "v"]
    weights = {name: np.ones(3, np.float32) for name in names}
    bn = node("BatchNormalization", ["x", *names], ["y", "mean", "variance"], training_mode=1)
    graph = simplified(model([bn], [tensor("x", (1, 3, 2, 2))], ["y"], weights))
    assert [kept.attribute("training_mode", 0) for kept in graph.nodes] == [0]


@pytest.mark.parametrize(("flag", "kept"), [(True, "Relu"), (False, "Neg")])
def test_an_if_with_a_known_condition_becomes_its_branch(flag: bool, kept: str) -> None:
    branches = {}
    for name, op in (("then_branch", "Relu"), ("else_branch", "Neg")):
        body = [node("Mul", ["x", "two"], ["t"]), node(op, ["t"], ["r"])]
        two = numpy_helper.from_array(np.float32(2), "two")
        branches[name] = helper.make_graph(body, name, [], [tensor("r")], [two])
    nodes = [node("If", ["flag"], ["a"], **branches), node("Add", ["a", "x"], ["y"])]
    graph = simplified(model(nodes, [tensor("x", (2,))], ["y"], {"flag": np.array(flag)}))
    assert ops(graph) == ["Mul", kept, "Add"]


def test_a_split_keeps_parts_that_nobody_reads() -> None:
    proto = model([node("Split", ["x"], ["y", "unread"], axis=1, num_outputs=2)], [tensor("x", (2, 6))], ["y"])
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    (y,) = stack.compile(proto, threads=1).run({"x": x}).values()
    np.testing.assert_array_equal(y, x[:, :3])


def test_dead_nodes_and_unused_weights_are_dropped() -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("Add", ["x", "w"], ["unused"])]
    graph = simplified(model(nodes, [tensor("x", (2,))], ["y"], {"w": np.ones(2, np.float32)}))
    assert ops(graph) == ["Relu"]
    assert graph.values == {}


def test_integer_weights_stay_in_front_of_their_dequantization() -> None:
    nodes = [node("DequantizeLinear", ["w", "scale"], ["f"]), node("MatMul", ["x", "f"], ["y"])]
    weights = {"w": np.ones((3, 4), np.int8), "scale": np.float32(0.5)}
    assert ops(simplified(model(nodes, [tensor("x", (2, 3))], ["y"], weights))) == ["DequantizeLinear", "MatMul"]


def test_a_large_constant_made_from_nothing_stays_a_node() -> None:
    nodes = [node("Expand", ["one", "shape"], ["big"]), node("Add", ["x", "big"], ["y"])]
    weights = {"one": np.ones(1, np.float32), "shape": np.array([2048, 1024])}
    assert ops(simplified(model(nodes, [tensor("x", (1,))], ["y"], weights))) == ["Expand", "Add"]


def test_random_nodes_are_not_folded() -> None:
    nodes = [node("RandomNormal", [], ["r"], shape=[2]), node("Add", ["x", "r"], ["y"])]
    assert ops(simplified(model(nodes, [tensor("x", (2,))], ["y"]))) == ["RandomNormal", "Add"]


def test_shapes_that_do_not_fit_name_the_node() -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"], name="head")], [tensor("x", (1, "n"))], ["y"], {"w": np.ones((5, 2), np.float32)})
    with pytest.raises(BadModel) as error:
        simplified(proto, x=(1, 4))
    text = str(error.value)
    assert text.startswith("error: the inputs of MatMul 'head' (output 'y') do not fit it: ")
    assert "at: the ModelProto: inputs of shape [1, 4], [5, 2]\n" in text
    assert "check the shapes that you gave" in text


def test_a_node_that_breaks_its_definition_is_reported() -> None:
    with pytest.raises(BadModel, match=r"the inputs of Relu \(output 'y'\) do not fit it: .*input size 2"):
        simplified(model([node("Relu", ["x", "x"], ["y"])], [tensor("x", (1,))], ["y"]))


def test_a_name_that_is_written_twice_is_reported() -> None:
    with pytest.raises(BadModel, match=r"the output 'x' of Identity \(output 'x'\) is there already"):
        simplified(model([node("Identity", ["x"], ["x"]), node("Relu", ["x"], ["y"])], [tensor("x", (1,))], ["y"]))


def test_attributes_that_do_not_go_together_are_reported() -> None:
    conv = node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", dilations=[1])
    with pytest.raises(BadModel, match=r"the attributes of Conv \(output 'y'\) do not fit it: zip"):
        simplified(model([conv], [tensor("x", (1, 1, 4, 4))], ["y"], {"w": np.ones((1, 1, 2, 2), np.float32)}))


def test_a_dangling_name_is_reported() -> None:
    with pytest.raises(BadModel, match=r"input 'ghost' of Relu \(output 'y'\) does not exist"):
        simplified(model([node("Relu", ["ghost"], ["y"])], [tensor("x", (1,))], ["y"]))
    with pytest.raises(BadModel, match="nothing computes output 'ghost'"):
        simplified(model([node("Relu", ["x"], ["y"])], [tensor("x", (1,))], ["ghost"]))


def test_outputs_may_be_inputs_constants_or_each_other() -> None:
    """Compiled, since the emitter must copy them."""
    nodes = [
        node("Identity", ["x"], ["same"]),
        node("Relu", ["x"], ["y"]),
        node("Identity", ["y"], ["again"]),
        node("Identity", ["c"], ["d"]),
    ]
    proto = model(nodes, [tensor("x", (2, 2)), tensor("s", ())], ["same", "y", "again", "d", "s"], {"c": np.array([1, 2], np.int64)})
    x = np.array([[1, -2], [-3, 4]], np.float32)
    got = stack.compile(proto, threads=1).run({"x": x, "s": np.array(3, np.float32)})
    want = {"same": x, "y": np.maximum(x, 0), "again": np.maximum(x, 0), "d": np.array([1, 2]), "s": np.float32(3)}
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array)


def test_definitions_stand_in_for_operators_without_a_converter() -> None:
    """Attention is a dozen nodes by its ONNX definition."""
    proto = model([node("Attention", ["q", "k", "v"], ["y"])], [tensor(n, (1, 2, 4, 8)) for n in "qkv"], ["y"], opset=23)
    proto.ir_version = 10
    rng = np.random.default_rng(0)
    feed = {name: rng.standard_normal((1, 2, 4, 8), np.float32) for name in "qkv"}
    (want,) = ReferenceEvaluator(proto).run(None, feed)
    np.testing.assert_allclose(stack.compile(proto, threads=1).run(feed)["y"], want, rtol=1e-4, atol=1e-5)


def test_half_precision_inputs_keep_their_type() -> None:
    proto = model([node("Elu", ["x"], ["y"])], [tensor("x", (4,), TensorProto.FLOAT16)], ["y"])
    got = stack.compile(proto, threads=1).run({"x": np.array([-1, 0, 1, 2], np.float16)})["y"]
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, [np.exp(-1) - 1, 0, 1, 2], atol=1e-3)
