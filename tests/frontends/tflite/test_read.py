"""Every damaged or missing file is refused in words that say what is wrong; sound ones are read as they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stack.errors import BadModel, UnsupportedOp
from stack.frontends import tflite
from stack.frontends.load import load
from stack.frontends.tflite.read import read
from tests.frontends.tflite.build import C, T, model, op

DAMAGED = "error: the model is damaged: "


def tiny(**given: Any) -> bytes:
    """y = relu(x + w), of which any part may be replaced."""
    parts: dict[str, Any] = {
        "inputs": [T("x", (1, 4))],
        "constants": [C("w", np.arange(4, dtype=np.float32))],
        "ops": [op("ADD", ["x", "w"], ["h"]), op("RELU", ["h"], ["y"])],
        "tensors": [T("h", (1, 4)), T("y", (1, 4))],
        "outputs": ["y"],
    }
    return model(**(parts | given))


def refusal(data: Any) -> str:
    with pytest.raises(BadModel) as error:
        load(data, {})
    return str(error.value)


def with_affine(**given: Any) -> bytes:
    return tiny(tensors=[T("h", (1, 4)), T("y", (1, 4), "int8", **given)])


ODD = {
    "tensor 'x' has a negative dimension, [1, -4]": tiny(inputs=[T("x", (1, -4))]),
    "tensor 'x' of shape [1073741824, 4] is larger than any file": tiny(inputs=[T("x", (1 << 30, 4))]),
    "tensor 'x' has a buffer that is not there": tiny(inputs=[T("x", (1, 4), buffer=9)]),
    "constant 'w' of shape [4] has 6 bytes where 16 are needed": tiny(constants=[T("w", (4,), data=b"six...")]),
    "a buffer ends behind the end of the file": tiny(constants=[T("w", (4,), external=(100, 1 << 20))]),
    "tensor 'y' has a scale that is no positive number": with_affine(scale=-1.0),
    "tensor 'y' has a zero point beyond int8": with_affine(scale=1.0, zero_point=200),
    "tensor 'y' of shape [1, 4] has 3 scales for dimension 1": with_affine(scale=[1.0, 2.0, 3.0], axis=1),
    "it has no graph with outputs": tiny(outputs=[]),
    "operator 0, ADD, has a tensor that is not there": tiny(ops=[op("ADD", ["x", 40], ["h"]), op("RELU", ["h"], ["y"])]),
    "RELU (output 'y') reads 'h' before anything wrote it": tiny(ops=[op("RELU", ["h"], ["y"]), op("ADD", ["x", "w"], ["h"])]),
    "'h' is written twice": tiny(ops=[op("ADD", ["x", "w"], ["h"]), op("RELU", ["x"], ["h"])]),
    "nothing computes the output 'y'": tiny(ops=[op("ADD", ["x", "w"], ["h"])]),
}


@pytest.mark.parametrize("reason", ODD)
def test_a_damaged_model_is_refused_with_its_reason(reason: str) -> None:
    assert refusal(ODD[reason]) == (
        f"{DAMAGED}{reason}\n  at: the bytes\n  hint: the download or copy may be incomplete: compare its size with the original's"
    )


def test_scales_and_zero_points_that_differ_in_number_are_refused() -> None:
    data = with_affine(scale=[1.0, 2.0, 3.0, 4.0], axis=1, zero_point=[0, 1, 2, 3])
    scales = np.array([1.0, 2.0, 3.0, 4.0], np.float32).tobytes()
    assert scales in data
    at = data.index(scales) - 4  # the length of the vector
    assert "tensor 'y' has 3 scales and 4 zero points" in refusal(data[:at] + (3).to_bytes(4, "little") + data[at + 4 :])


def test_each_byte_may_be_wrong() -> None:
    """What cannot be built on purpose: a byte at a time is overwritten, and the readers' remaining reasons come up."""
    data, found = tiny(inputs=[T("x", (1, 4)), T("z", (1, 4), "int32")]), set()
    for position in range(len(data)):
        for value in (0, 1, 200):
            try:
                load(data[:position] + bytes([value]) + data[position + 1 :], {})
            except BadModel as error:
                found.add(error.what.removeprefix("the model is damaged: "))
            except UnsupportedOp:
                pass
    for reason in (
        "an offset or a length in it leads nowhere",
        "its tables overlap",
        "operator 1 has a code that is not there",
        "tensor 'z' has an element type that is not known",
        "an input is listed twice",
        "operator 0, ADD, has options that cannot be read",
    ):
        assert reason in found, f"{reason!r} is not among {sorted(found)}"


def test_the_start_of_a_model_is_none() -> None:
    data = tiny()
    for size in range(8, len(data) - 1, 7):
        assert refusal(data[:size]).startswith(DAMAGED)


def test_what_is_no_model_at_all_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.tflite"
    assert refusal(file) == f"error: there is no file 'a.tflite'\n  at: {file}\n  hint: give the path of a .tflite file"
    file.mkdir()
    assert refusal(file).startswith("error: this is a folder, not a model\n")
    file.rmdir()
    file.write_bytes(b"short")
    assert refusal(file) == (
        f"error: the file is no TFLite model, or it is cut short\n  at: {file}\n"
        "  hint: the download or copy may be incomplete: compare its size with the original's"
    )
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert refusal(file).endswith("hint: this is a Git LFS pointer: run `git lfs pull`")
    monkeypatch.setattr(Path, "read_bytes", lambda _self: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert refusal(file).startswith("error: the file cannot be read: Permission denied\n")


def test_bytes_that_are_no_model_are_refused() -> None:
    assert refusal(b"anything") == ("error: these bytes are no TFLite model\n  hint: give an ONNX model as a path or as a ModelProto")


def test_a_file_is_known_by_its_content_where_its_name_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "network.bin"
    file.write_bytes(tiny())
    assert load(file, {}).output_names == ["y"]
    file.write_bytes(b"nothing")
    assert "no ONNX model" in refusal(file)


def test_int4_weights_are_unpacked() -> None:
    values = np.array([[-8, 7, 1], [0, -1, 5]], np.int8)
    source = read(tiny(constants=[C("w", np.arange(4, dtype=np.float32)), C("q", values, 0.5, dtype="int4")]))
    tensor = next(tensor for tensor in source.main.tensors if tensor.name == "q")
    assert tensor.dtype == "int8"
    np.testing.assert_array_equal(tensor.value, values)


def test_weights_behind_the_flatbuffer_are_read() -> None:
    weights = np.array([5, 6, 7, 8], np.float32)
    size = len(tiny(constants=[T("w", (4,), external=(1000, 16))]))
    data = tiny(constants=[T("w", (4,), external=(size, 16))]) + weights.tobytes()
    tensor = next(tensor for tensor in read(data).main.tensors if tensor.name == "w")
    np.testing.assert_array_equal(tensor.value, weights)


def test_tensors_without_a_name_or_with_the_same_one_can_be_told_apart() -> None:
    data = tiny(inputs=[T("", (1, 4))], ops=[op("ADD", [0, "w"], ["h"]), op("RELU", ["h"], ["y"])])
    assert tflite.load(data, {}).input_names == ["tensor_0"]
    same = tiny().replace(b"\x01\x00\x00\x00h\x00", b"\x01\x00\x00\x00y\x00")
    assert [tensor.name for tensor in read(same).main.tensors] == ["x", "w", "y", "y_3"]


def test_a_bias_may_repeat_the_axis_of_its_weights() -> None:
    data = tiny(constants=[C("w", np.arange(4, dtype=np.int32), scale=[1.0, 2.0, 3.0, 4.0], axis=3)])
    tensor = next(tensor for tensor in read(data).main.tensors if tensor.name == "w")
    assert tensor.affine is not None
    assert tensor.affine.axis == 0
