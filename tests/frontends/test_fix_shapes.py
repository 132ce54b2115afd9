"""Shapes: each way in which what the user gives and what the file declares do not meet has its own message."""

from collections.abc import Mapping, Sequence

import onnx
import pytest
from onnx import TensorProto, helper

from stack.errors import BadModel
from stack.frontends.onnx.fix_shapes import fix_shapes
from tests.models.build import tensor

IMAGE = tensor("image", ("batch", 3, "h", "w"))


def shapes(inputs: Sequence[onnx.ValueInfoProto], given: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    types = fix_shapes(inputs, given, "m.onnx")
    return {name: [dim.dim_value for dim in kind.tensor_type.shape.dim] for name, kind in types.items()}


def message(inputs: Sequence[onnx.ValueInfoProto], given: Mapping[str, Sequence[int]]) -> str:
    with pytest.raises(BadModel) as error:
        fix_shapes(inputs, given, "m.onnx")
    return str(error.value)


def test_given_shapes_fill_open_dimensions() -> None:
    assert shapes([IMAGE], {"image": (1, 3, 32, 64)}) == {"image": [1, 3, 32, 64]}


def test_a_missing_shape_is_asked_for_with_the_flag_to_add() -> None:
    assert message([IMAGE], {}) == (
        "error: an input's shape is not fixed: 'image' is [batch, 3, h, w]\n"
        "  at: m.onnx\n"
        "  hint: add --shape image=1,3,224,224 (with the sizes that you want)"
    )


def test_all_missing_shapes_are_asked_for_at_once() -> None:
    text = message([tensor("ids", ("n", "s")), tensor("a", (2,)), tensor("mask", (None, 7))], {})
    assert "the shapes of 2 inputs are not fixed: 'ids' is [n, s]; 'mask' is [?, 7]" in text
    assert "add --shape ids=1,128 --shape mask=1,7" in text


def test_even_a_lone_batch_is_not_guessed() -> None:
    assert "'x' is [?, 8]" in message([tensor("x", (None, 8))], {})


def test_zero_and_negative_declared_dimensions_are_open() -> None:
    assert "'x' is [?, ?]" in message([tensor("x", (0, -1))], {})


def test_a_name_known_from_one_input_holds_for_the_others() -> None:
    inputs = [tensor("ids", ("batch", "seq")), tensor("mask", ("batch", 1, "seq")), tensor("scale", ("batch",))]
    assert shapes(inputs, {"ids": (2, 16)}) == {"ids": [2, 16], "mask": [2, 1, 16], "scale": [2]}


def test_a_name_with_two_meanings_fixes_nothing() -> None:
    inputs = [tensor("a", ("n",)), tensor("b", ("n",)), tensor("c", ("n", 4))]
    assert "'c' is [n, 4]" in message(inputs, {"a": (2,), "b": (3,)})


def test_a_partly_known_shape_is_shown_in_the_hint() -> None:
    assert "--shape b=2,128" in message([tensor("a", ("n",)), tensor("b", ("n", "m"))], {"a": (2,)})


def test_an_unknown_name_gets_a_suggestion() -> None:
    text = message([IMAGE], {"imgae": (1, 3, 8, 8)})
    assert text == "error: the model has no input 'imgae'\n  at: m.onnx\n  hint: did you mean 'image'?"
    assert message([IMAGE], {"zzz": (1,)}).endswith("hint: its inputs are 'image'")


def test_a_wrong_rank_is_refused() -> None:
    text = message([IMAGE], {"image": (3, 8, 8)})
    assert "input 'image' has 4 dimensions, [batch, 3, h, w], but its shape was given as [3, 8, 8]" in text


def test_a_fixed_dimension_cannot_be_changed() -> None:
    text = message([IMAGE], {"image": (1, 4, 8, 8)})
    assert "input 'image' is fixed to [batch, 3, h, w] by the model, but its shape was given as [1, 4, 8, 8]" in text
    assert "use --shape image=1,3,8,8" in text


@pytest.mark.parametrize("bad", [0, -1])
def test_dimensions_below_one_are_refused(bad: int) -> None:
    text = message([IMAGE], {"image": (1, 3, bad, 8)})
    assert f"shape [1, 3, {bad}, 8] of input 'image' has a dimension below 1" in text


def test_an_input_of_unknown_rank_takes_any_shape() -> None:
    inputs = [tensor("x")]
    assert "'x' is of unknown rank" in message(inputs, {})
    assert shapes(inputs, {"x": (2, 5)}) == {"x": [2, 5]}
    assert shapes(inputs, {"x": ()}) == {"x": []}


def test_scalars_need_no_shape() -> None:
    assert shapes([tensor("x", ())], {}) == {"x": []}


def test_only_tensors_of_numbers_are_inputs() -> None:
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    assert message([sequence], {}).startswith("error: input 's' is not a tensor but a sequence\n")
    assert message([tensor("t", (1,), TensorProto.STRING)], {}).startswith("error: input 't' has element type string\n")
