import doctest
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import stack
from stack import compiler as compiler_module
from stack import library as library_module
from stack.errors import BadInput, BadLibrary, StackError
from stack.library import checked
from stack.manifest import Tensor


class Foreign:
    """An array of some other library: it has DLPack and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def assert_equal(outputs, expected):
    assert list(outputs) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(outputs[name], array, rtol=1e-5, atol=1e-5)
        assert outputs[name].dtype == array.dtype


def error_of(kind, call, *arguments, **named):
    with pytest.raises(kind) as caught:
        call(*arguments, **named)
    return str(caught.value)


# running


def test_outputs_are_those_of_the_model_by_name(compiled, arrays, expected):
    assert_equal(compiled.run(arrays), expected)


def test_a_loaded_library_computes_the_same(saved, compiled, arrays):
    again = stack.load(saved, threads=1).run(arrays)
    for name, array in compiled.run(arrays).items():
        np.testing.assert_array_equal(again[name], array)


def test_inputs_and_outputs_are_described_in_the_models_order(compiled):
    assert compiled.inputs == [Tensor("image", (1, 3, 8, 8), "float32"), Tensor("ids", (2,), "int64")]
    assert compiled.outputs == [Tensor("features", (1, 4, 8, 8), "float32"), Tensor("rows", (2, 6), "float32")]
    assert "tiny for x86: (image: float32[1, 3, 8, 8], ids: int64[2]) -> (features: " in repr(compiled)


def test_arrays_of_other_libraries_are_taken_through_dlpack(compiled, arrays, expected):
    assert_equal(compiled.run({name: Foreign(array) for name, array in arrays.items()}), expected)


@pytest.mark.parametrize("wrap", [lambda array: array, Foreign], ids=["numpy", "dlpack"])
def test_a_dense_array_is_read_where_it_lies(wrap, arrays, compiled):
    array = arrays["image"]
    assert np.shares_memory(checked(compiled.inputs[0], wrap(array)), array)


def test_a_strided_array_is_read_right(compiled, arrays, expected):
    image = np.asfortranarray(arrays["image"])
    assert not image.flags.c_contiguous
    assert_equal(compiled.run({**arrays, "image": image}), expected)


@pytest.mark.parametrize("offset", [1, 4])
def test_an_array_may_begin_at_any_address(offset, compiled, arrays, expected):
    room = np.zeros(arrays["image"].nbytes + 64 + offset, np.uint8)
    begin = -room.ctypes.data % 64 + offset
    image = room[begin : begin + arrays["image"].nbytes].view(np.float32).reshape(arrays["image"].shape)
    image[:] = arrays["image"]
    assert_equal(compiled.run({**arrays, "image": image}), expected)


def test_the_callers_arrays_are_left_alone(compiled, arrays):
    image = arrays["image"].copy()
    image.flags.writeable = False
    compiled.run({**arrays, "image": image})
    np.testing.assert_array_equal(image, arrays["image"])


def test_python_threads_share_a_library(saved):
    library = stack.load(saved, threads=2)
    rng = np.random.default_rng(2)
    inputs = [{"image": rng.standard_normal((1, 3, 8, 8), np.float32), "ids": rng.integers(0, 5, 2)} for _ in range(8)]
    alone = [library.run(arrays) for arrays in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(library.run, inputs * 50))
    for index, outputs in enumerate(together):
        for name, array in alone[index % len(inputs)].items():
            np.testing.assert_array_equal(outputs[name], array)


def test_profile_times_every_operator(compiled, arrays):
    seconds = compiled.profile(arrays)
    assert len(seconds) == len(compiled.manifest["operators"]) > 0
    assert all(second >= 0 for second in seconds)


def test_the_examples_in_the_docstrings_run(tmp_path, monkeypatch):
    add = helper.make_node("Add", ["x", "x"], ["y"])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 4))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", 4))]
    graph = helper.make_graph([add], "g", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "add.onnx")
    monkeypatch.chdir(tmp_path)
    example = stack.compile("add.onnx", shapes={"x": (1, 4)})
    names = {"library": example, "folder": tmp_path / "out", "stack": stack, "np": np}
    results = [doctest.testmod(module, extraglobs=names) for module in (compiler_module, library_module)]
    assert [result.attempted > 1 for result in results] == [True, True]
    assert [result.failed for result in results] == [0, 0]


def test_loading_and_running_imports_no_tvm(saved):
    code = f"""
import sys, numpy as np, stack
library = stack.load({str(saved)!r})
library.run({{"image": np.zeros((1, 3, 8, 8), np.float32), "ids": np.zeros(2, np.int64)}})
print([name for name in sys.modules if name.split(".")[0] in ("tvm", "tvm_ffi", "onnx", "rich", "schedules.rule")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# wrong input


def test_a_missing_array_is_named(compiled, arrays):
    assert error_of(BadInput, compiled.run, {"image": arrays["image"]}) == (
        "error: no array was given for ids: int64[2]\n  hint: the dict must have an array for every input"
    )


def test_an_unknown_name_gets_the_nearest(compiled, arrays):
    assert (
        error_of(BadInput, compiled.run, {**arrays, "imagee": 0}) == "error: the model has no input 'imagee'\n  hint: did you mean 'image'?"
    )


def test_an_unknown_name_far_from_all_gets_the_list(compiled, arrays):
    assert error_of(BadInput, compiled.run, {**arrays, "qqq": 0}) == (
        "error: the model has no input 'qqq'\n  hint: the inputs are image: float32[1, 3, 8, 8], ids: int64[2]"
    )


def test_a_dtype_is_never_cast_silently(compiled, arrays):
    assert error_of(BadInput, compiled.run, {**arrays, "image": arrays["image"].astype(np.float64)}) == (
        "error: input 'image' is float64, and the model takes float32\n  hint: convert it where it is made, or with .astype(\"float32\")"
    )


def test_foreign_byte_order_is_another_dtype(compiled, arrays):
    assert "input 'image' is >f4" in error_of(BadInput, compiled.run, {**arrays, "image": arrays["image"].astype(">f4")})


def test_a_shape_is_never_broadcast(compiled, arrays):
    assert error_of(BadInput, compiled.run, {**arrays, "image": arrays["image"][0]}) == (
        "error: input 'image' has shape (3, 8, 8), and the library was compiled for (1, 3, 8, 8)\n"
        "  hint: give an array of that shape, or compile the model again with another --shape"
    )


def test_a_list_is_no_array(compiled, arrays):
    assert error_of(BadInput, compiled.run, {**arrays, "ids": [0, 1]}) == (
        "error: input 'ids' is a list, not an array\n  hint: numpy.asarray(value, \"int64\") makes one"
    )


def test_an_array_that_refuses_dlpack_is_reported(compiled, arrays):
    class Elsewhere(Foreign):
        def __dlpack__(self, **options):
            raise BufferError("the memory is on a GPU")

    assert error_of(BadInput, compiled.run, {**arrays, "ids": Elsewhere(arrays["ids"])}) == (
        "error: input 'ids' is a Elsewhere that cannot be read as a numpy array: the memory is on a GPU\n"
        "  hint: move it to the CPU and detach it first"
    )


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_threads_must_be_a_positive_whole_number(threads, saved, model_file):
    text = f"error: threads must be a whole number of at least 1, not {threads!r}"
    assert error_of(BadInput, stack.load, saved, threads=threads) == text
    assert error_of(BadInput, stack.compile, model_file, threads=threads) == text


# saving


def test_save_replaces_an_older_library(compiled, folder, arrays, expected):
    (folder / "weights.bin").write_bytes(b"old")
    compiled.save(folder)
    assert_equal(stack.load(folder).run(arrays), expected)


def test_a_library_may_be_saved_over_itself(folder, arrays, expected):
    library = stack.load(folder)
    library.save(folder)
    assert_equal(library.run(arrays), expected)
    assert_equal(stack.load(folder).run(arrays), expected)


def test_save_makes_the_folders_above(compiled, tmp_path):
    compiled.save(tmp_path / "a/b")
    assert stack.load(tmp_path / "a/b").outputs == compiled.outputs


def test_save_gives_the_folder_ordinary_permissions(compiled, tmp_path):
    (tmp_path / "plain").mkdir()
    compiled.save(tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_save_refuses_to_replace_anything_else(compiled, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert error_of(StackError, compiled.save, tmp_path) == (
        f"error: the folder holds something else than a library\n  at: {tmp_path}\n  hint: name an empty or new folder"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_save_refuses_a_file(compiled, tmp_path):
    file = tmp_path / "out"
    file.write_text("")
    assert error_of(StackError, compiled.save, file) == (
        f"error: the place for the library is a file\n  at: {file}\n  hint: name an empty or new folder"
    )


def test_a_save_that_fails_leaves_what_was_there(compiled, folder, monkeypatch):
    def disk_full(source, destination):
        raise OSError(28, "No space left on device")

    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(library_module.shutil, "copyfile", disk_full)
    with pytest.raises(OSError, match="No space left"):
        compiled.save(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [file.name for file in folder.parent.iterdir()] == ["tiny"]


# libraries that cannot be loaded


def change(folder, **entries):
    file = folder / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


def test_no_such_folder(tmp_path):
    assert error_of(BadLibrary, stack.load, tmp_path / "none") == (
        f"error: no such folder\n  at: {tmp_path / 'none'}\n  hint: `stackc compile MODEL -t TARGET -o DIR` makes one"
    )


def test_a_folder_without_manifest(tmp_path):
    assert error_of(BadLibrary, stack.load, tmp_path).startswith(f"error: this is no library: it has no manifest.json\n  at: {tmp_path}\n")


@pytest.mark.parametrize("text", ["{", "[]", "{}", "\x00\xff", '{"format": 1, "versions": {"stack-compiler": "0.1.0"}}'])
def test_a_manifest_that_is_none(text, folder):
    (folder / "manifest.json").write_text(text, encoding="latin-1")
    assert error_of(BadLibrary, stack.load, folder) == (
        f"error: the manifest cannot be read\n  at: {folder / 'manifest.json'}\n"
        "  hint: compile the model again, or copy the library again from where it came from"
    )


def test_a_library_of_another_format(folder):
    change(folder, format=99, versions={"stack-compiler": "7.0"})
    assert error_of(BadLibrary, stack.load, folder) == (
        "error: the library has format 99, and this version of Stack reads format 1\n"
        f"  at: {folder / 'manifest.json'}\n"
        "  hint: compile the model again, or install stack-compiler==7.0, which made it"
    )


@pytest.mark.parametrize("name", ["libtiny.so", "weights.bin", "tiny.h"])
def test_an_altered_file_is_named(name, folder):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert error_of(BadLibrary, stack.load, folder).startswith(
        f"error: a file of the library was altered since it was made\n  at: {folder / name}\n"
    )


def test_a_missing_file_is_named(folder):
    (folder / "weights.bin").unlink()
    assert error_of(BadLibrary, stack.load, folder).startswith(f"error: a file of the library is missing\n  at: {folder / 'weights.bin'}\n")


def test_a_cpu_that_lacks_a_feature_is_refused_before_anything_runs(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(folder, target={**manifest["target"], "name": "x86-next", "features": ["avx2", "avx2048", "magic"]})
    text = error_of(BadLibrary, stack.load, folder)
    assert text.startswith("error: this CPU lacks what the library was compiled for: avx2048, magic\n")
    assert f"at: {folder}, compiled for target 'x86-next'; this is " in text
    assert "hint: compile the model again with -t x86 on this machine" in text


@pytest.mark.parametrize("family", ["sparc", "../x86", "x86.boards"])
def test_a_family_without_runner(family, folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(folder, target={**manifest["target"], "family": family})
    assert error_of(BadLibrary, stack.load, folder) == f"error: libraries for '{family}' do not run on this machine\n  at: {folder}"


def test_weights_of_another_size_are_refused_by_the_library_itself(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "weights.bin").write_bytes(b"short")
    change(folder, files={name: digest for name, digest in manifest["files"].items() if name != "weights.bin"})
    assert error_of(BadLibrary, stack.load, folder) == f"error: the library could not be opened\n  at: {folder}\n  hint: Invalid argument"


def test_a_shared_library_that_does_not_load(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "libtiny.so").write_bytes(b"no ELF")
    change(folder, files={name: digest for name, digest in manifest["files"].items() if name != "libtiny.so"})
    assert error_of(BadLibrary, stack.load, folder).startswith(
        f"error: the system could not load the shared library\n  at: {folder / 'libtiny.so'}\n"
    )
