import numpy as np
import pytest

from stack import samples
from stack.errors import BadInput
from stack.manifest import Tensor

TENSORS = [
    Tensor("real", (1000,), "float32"),
    Tensor("pixels", (1000,), "uint8"),
    Tensor("quantised", (1000,), "int8"),
    Tensor("ids", (1000,), "int64"),
    Tensor("mask", (1000,), "bool"),
    Tensor("half", (10,), "float16"),
    Tensor("scalar", (), "float32"),
]


def test_arrays_have_the_shape_and_dtype_and_are_valid_whatever_they_mean():
    arrays = samples.draw(TENSORS, seed=0)
    for tensor in TENSORS:
        assert arrays[tensor.name].shape == tensor.shape
        assert arrays[tensor.name].dtype == tensor.dtype
    assert abs(arrays["real"].mean()) < 0.2
    assert arrays["pixels"].max() > 200
    assert arrays["quantised"].min() < -100
    assert set(arrays["ids"]) == {0, 1}


def test_equal_seeds_give_equal_arrays():
    first, again, other = (samples.draw(TENSORS, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["real"], other["real"])


def test_what_is_written_is_read_again_under_any_name(tmp_path):
    arrays = {"file": np.arange(3), "a/b:0": np.ones((2, 2), np.float32)}
    samples.write(tmp_path / "out.npz", arrays)
    again = samples.read(tmp_path / "out.npz")
    assert list(again) == list(arrays)
    assert all(np.array_equal(again[name], arrays[name]) for name in arrays)
    assert [file.name for file in tmp_path.iterdir()] == ["out.npz"]


def test_a_write_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        samples.write(tmp_path / "out.npz", {"good": np.zeros(3), "objects": np.array([object()])})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file(tmp_path):
    with pytest.raises(BadInput) as caught:
        samples.read(tmp_path / "in.npz")
    assert str(caught.value) == (
        f"error: no such file\n  at: {tmp_path / 'in.npz'}\n  hint: numpy.savez(file, **arrays) makes one, with an array for each input"
    )


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04 truncated"])
def test_a_file_that_is_no_archive(data, tmp_path):
    (tmp_path / "in.npz").write_bytes(data)
    with pytest.raises(BadInput) as caught:
        samples.read(tmp_path / "in.npz")
    assert str(caught.value) == (
        f"error: the inputs cannot be read\n  at: {tmp_path / 'in.npz'}\n  hint: numpy.savez(file, **arrays) writes what is read here"
    )


def test_a_single_array_is_no_archive(tmp_path):
    np.save(tmp_path / "in.npy", np.zeros(3))
    with pytest.raises(BadInput, match="the inputs cannot be read"):
        samples.read(tmp_path / "in.npy")
