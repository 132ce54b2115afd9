"""What cannot be compiled is refused, every node at once, each with its reason."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from stack.errors import UnsupportedOp
from stack.frontends.onnx import load
from stack.frontends.onnx.plain_operators import CONVERTERS
from stack.frontends.onnx.to_relax import constant
from tests.models.build import model, tensor

node = helper.make_node


def message(proto: onnx.ModelProto) -> str:
    with pytest.raises(UnsupportedOp) as error:
        load(proto, {})
    return str(error.value)


def test_all_are_listed_with_their_names() -> None:
    nodes = [
        node("NonZero", ["x"], ["where"], name="find"),
        node("Frobnicate", ["x"], ["f"], domain="com.example"),
        node("Relu", ["x"], ["y"]),
        node("Det", ["x"], ["d"]),
    ]
    proto = model(nodes, [tensor("x", (2, 2))], ["where", "f", "y", "d"])
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    assert message(proto) == (
        "error: 3 operators are not supported: Det, NonZero, com.example:Frobnicate\n"
        "  at: the ModelProto\n"
        "    NonZero 'find' (output 'where'): the shape of its result depends on its input's values\n"
        "    com.example:Frobnicate (output 'f'): operators of com.example are not known\n"
        "    Det (output 'd'): not known\n"
        "  hint: cut the model before them, or export it without them"
    )


def test_one_alone_is_named_in_the_first_line() -> None:
    lstm = node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4)
    weights = {"w": np.zeros((1, 16, 3), np.float32), "r": np.zeros((1, 16, 4), np.float32)}
    text = message(model([lstm], [tensor("x", (5, 1, 3))], ["y"], weights))
    assert text.startswith("error: the operator LSTM is not supported\n")
    assert "LSTM (output 'y'): recurrent layers are not compiled yet\n" in text


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "reason"),
    [
        ("Unique", ["x"], {}, "the shape of its result depends on its input's values"),
        ("QLinearMatMul", ["b", "s", "z", "b", "s", "z", "s", "z"], {}, "its scales or zero points differ from row to row"),
        ("SequenceConstruct", ["x"], {}, "only tensors can be compiled, not sequences or optional values"),
        ("RandomNormalLike", ["x"], {}, "it is random"),
        ("TopK", ["x", "k"], {}, "the number of its results is computed"),
        ("ScatterND", ["x", "i", "u"], {}, "it writes to places that are computed, or adds to them"),
        ("Cast", ["x"], {"to": TensorProto.FLOAT8E4M3FN}, "element type float8_e4m3fn is not compiled"),
        ("RoiAlign", ["p", "x", "i1"], {"mode": "max"}, "only its average mode is compiled"),
        ("Reshape", ["x", "k"], {}, "the shape of its result depends on its input's values"),
    ],
)
def test_each_reason(op: str, inputs: list[str], attributes: dict[str, object], reason: str) -> None:
    given = [
        tensor("x", (4, 4)), tensor("b", (4, 4), TensorProto.INT8), tensor("k", (1,), TensorProto.INT64),
        tensor("i", (1, 1), TensorProto.INT64),
        tensor("s", (4,)), tensor("z", (4,), TensorProto.INT8), tensor("u", (1, 4)), tensor("p", (1, 2, 4, 4)),
        tensor("i1", (4,), TensorProto.INT64),
    ]  # fmt: skip
    outputs = ["y", "indices"] if op == "TopK" else ["y"]
    text = message(model([node(op, inputs, outputs, **attributes)], given, outputs))
    assert reason in text


def test_loops_and_unknown_conditions() -> None:
    body = helper.make_graph([node("Relu", ["x"], ["r"])], "body", [], [tensor("r")])
    branch = node("If", ["flag"], ["y"], then_branch=body, else_branch=body)
    text = message(model([branch], [tensor("x", (2,)), tensor("flag", (), TensorProto.BOOL)], ["y"]))
    assert "If (output 'y'): its condition depends on the input's values" in text


def test_statistics_of_training_that_are_read() -> None:
    names = ["s", "b", "m", "v"]
    bn = node("BatchNormalization", ["x", *names], ["y", "mean", "variance"], training_mode=1)
    text = message(model([bn], [tensor("x", (1, 3, 2, 2))], ["y", "mean"], {name: np.ones(3, np.float32) for name in names}))
    assert "the statistics it computes are only for training" in text


def test_what_the_importer_refuses_names_the_node_and_the_reason() -> None:
    pool = node("MaxPool", ["x"], ["y", "indices"], name="pool", kernel_shape=[2, 2])
    text = message(model([pool, node("Relu", ["y"], ["z"])], [tensor("x", (1, 1, 4, 4))], ["z", "indices"]))
    assert "MaxPool 'pool' (output 'y'): only 1 of its 2 results can be computed" in text


def test_a_result_of_another_shape_than_onnx_infers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = model([node("Relu", ["x"], ["y"])], [tensor("x", (2, 3))], ["y"])
    for wrong, said in ((np.zeros(3, np.float32), "[3] where ONNX has [2, 3]"), (np.zeros((2, 3)), "float64 where ONNX has float32")):
        monkeypatch.setitem(CONVERTERS, "Relu", lambda *_, wrong=wrong: constant(wrong))
        assert f"its result becomes {said}" in message(proto)


def test_what_follows_from_an_unknown_shape_is_not_blamed() -> None:
    nodes = [node("Expand", ["x", "k"], ["e"]), node("Relu", ["e"], ["f"]), node("Add", ["f", "x"], ["y"])]
    text = message(model(nodes, [tensor("x", (1,)), tensor("k", (2,), TensorProto.INT64)], ["y"]))
    assert text.startswith("error: the operator Expand is not supported\n")
    assert text.count("(output ") == 1
