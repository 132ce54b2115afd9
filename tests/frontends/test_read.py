"""Reading: what is no model is refused with a reason, and weights come from wherever they lie."""

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stack.errors import BadModel
from stack.frontends.onnx import load
from stack.frontends.onnx.read import read
from tests.models.build import model, tensor

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


def dense() -> onnx.ModelProto:
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor("x", (2, 3))], ["y"], {"w": WEIGHT})


def external(folder: Path, location: str = "weights.bin") -> Path:
    file = folder / "m.onnx"
    onnx.save(dense(), file, save_as_external_data=True, location=location, size_threshold=0)
    return file


def message(source: str | Path | onnx.ModelProto) -> str:
    with pytest.raises(BadModel) as error:
        read(source)
    return str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    assert message(file) == f"error: there is no file 'net.onnx'\n  at: {file}\n  hint: give the path of an .onnx file"


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    assert message(tmp_path).startswith("error: this is a folder, not a model\n")


def test_a_file_that_may_not_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_file: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    (tmp_path / "m.onnx").touch()
    assert message(tmp_path / "m.onnx").startswith("error: the file cannot be read: Permission denied\n")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = dense().SerializeToString()
    file = tmp_path / "m.onnx"
    for end in range(0, len(whole) - 1, 7):
        file.write_bytes(whole[:end])
        assert message(file).startswith("error: ")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\x08\x01", b"{}", bytes(range(256))])
def test_other_files_are_no_onnx(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(content)
    assert message(file).startswith("error: the file is no ONNX model, or it is cut short\n")


def test_a_git_lfs_pointer_says_what_to_run(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert message(file).endswith("hint: this is a Git LFS pointer: run `git lfs pull`")


def test_an_empty_graph_is_refused() -> None:
    assert message(model([], [], [])).startswith("error: the model's graph is empty\n")


def test_external_weights_are_mapped_not_read(tmp_path: Path) -> None:
    source = read(external(tmp_path))
    np.testing.assert_array_equal(source.weights["w"], WEIGHT)
    base = source.weights["w"]
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)


def test_a_missing_file_of_weights_is_named(tmp_path: Path) -> None:
    file = external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    expected = (
        f"error: the file of weights 'weights.bin' is missing\n  at: {file}\n  hint: put it beside the model, as {tmp_path}/weights.bin"
    )
    assert message(file) == expected


def test_a_short_file_of_weights_is_refused(tmp_path: Path) -> None:
    file = external(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 40)
    assert "is too short: weight 'w' ends at byte 48, the file at 40" in message(file)


def test_weights_outside_the_models_folder_are_refused(tmp_path: Path) -> None:
    file = external(tmp_path)
    proto = onnx.load(file, load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = "../weights.bin"
    file.write_bytes(proto.SerializeToString())
    assert message(file).startswith("error: weight 'w' lies outside the model's folder\n")


def test_a_model_proto_without_its_weights_asks_for_the_path(tmp_path: Path) -> None:
    proto = onnx.load(external(tmp_path), load_external_data=False)
    text = message(proto)
    assert text.startswith("error: weight 'w' lies in a file, 'weights.bin', that a ModelProto does not lead to\n")
    assert "give the path of the .onnx file" in text


def test_a_damaged_weight_is_named() -> None:
    proto = dense()
    proto.graph.initializer[0].raw_data = b"\0" * 5
    assert message(proto).startswith("error: weight 'w' is damaged: ")


def test_no_message_holds_a_weight_so_that_size_does_not_matter(tmp_path: Path) -> None:
    """64 MB of weights beside the model: reading it takes no such memory, and what gets serialised later is small."""
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor("x", (2, 4096))], ["y"])
    big = TensorProto(name="w", dims=(4096, 4096), data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    big.external_data.add(key="location", value="w.bin")
    proto.graph.initializer.append(big)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(4096 * 4096 * 4)
    tracemalloc.start()
    try:
        source = read(tmp_path / "m.onnx")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    assert source.proto.ByteSize() < 1000
    assert source.weights["w"].shape == (4096, 4096)


def test_weights_inside_a_given_model_proto_leave_it_unchanged() -> None:
    proto = dense()
    before = proto.SerializeToString()
    load(proto, {})
    assert proto.SerializeToString() == before


def test_names_are_the_files_own(tmp_path: Path) -> None:
    names = ["gpu_0/data_0", "serving_default_input_2:0"]
    proto = model([helper.make_node("Add", names, ["out:0"])], [tensor(name, (2,)) for name in names], ["out:0"])
    onnx.save(proto, tmp_path / "my net-1.onnx")
    loaded = load(tmp_path / "my net-1.onnx", {})
    assert (loaded.name, loaded.input_names, loaded.output_names) == ("my net-1", names, ["out:0"])
    assert load(proto, {}).name == "tiny"


def test_weights_listed_as_inputs_are_weights() -> None:
    proto = dense()
    proto.graph.input.append(tensor("w", (3, 4)))
    assert load(proto, {}).input_names == ["x"]


def test_functions_of_the_model_are_inlined() -> None:
    proto = model([helper.make_node("Twice", ["x"], ["y"], domain="local")], [tensor("x", (2, 3))], ["y"])
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    opset = [helper.make_opsetid("", 21)]
    proto.functions.append(helper.make_function("local", "Twice", ["a"], ["b"], body, opset))
    proto.opset_import.append(helper.make_opsetid("local", 1))
    assert [node.op_type for node in read(proto).proto.graph.node] == ["Add"]


def test_sparse_weights_become_dense() -> None:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor("x", (2, 3))], ["y"])
    values = numpy_helper.from_array(np.array([5, 7], np.float32), "w")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1, 5])), [2, 3]))
    np.testing.assert_array_equal(read(proto).weights["w"], [[0, 5, 0], [0, 0, 7]])


def test_names_must_be_text() -> None:
    proto = model([helper.make_node("Relu", ["x"], ["name_of_y"])], [tensor("x", (2,))], ["name_of_y"])
    damaged = onnx.ModelProto.FromString(proto.SerializeToString().replace(b"name_of_y", b"name\xff\xfe\xfd_y"))
    with pytest.raises(BadModel, match=r"the model is damaged: its field '.*' is no text"):
        load(damaged, {})


def test_an_element_type_that_is_not_known_is_refused() -> None:
    proto = dense()
    proto.graph.initializer[0].data_type = 65
    assert "weight 'w' is damaged: element type 65 is not known" in message(proto)
