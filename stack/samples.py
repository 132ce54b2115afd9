"""Arrays to run a model with: drawn from a seed, or read from an .npz file; and the way back into a file.

What is drawn must be valid whatever an input means. Floats are standard normal. 8-bit integers take their whole range (pixels, quantised
values). Wider integers and booleans are 0 or 1, which is right for a mask, a token type and an index into any table.
"""

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stack.errors import BadInput
from stack.library import numpy_dtype
from stack.manifest import Tensor
from targets.runner import Array


def inputs(tensors: Sequence[Tensor], file: Path | None, seed: int) -> dict[str, Array]:
    """The arrays in `file`, or where there is none random ones for `tensors`."""
    return draw(tensors, seed) if file is None else read(file)


def draw(tensors: Sequence[Tensor], seed: int) -> dict[str, Array]:
    """One array for each of `tensors`, by name; equal seeds give equal arrays."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for tensor in tensors:
        dtype = numpy_dtype(tensor.dtype)
        if dtype.kind in "iu" and dtype.itemsize == 1:
            array = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, tensor.shape, dtype, endpoint=True)
        elif dtype.kind in "iub":
            array = rng.integers(0, 2, tensor.shape).astype(dtype)
        else:
            array = rng.standard_normal(tensor.shape).astype(dtype)
        arrays[tensor.name] = array
    return arrays


def read(file: Path) -> dict[str, Array]:
    """The arrays in an .npz file, by name."""
    try:
        with zipfile.ZipFile(file):
            pass  # where it is none, numpy would look for other formats
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise BadInput("no such file", at=str(file), hint="numpy.savez(file, **arrays) makes one, with an array for each input") from None
    except (ValueError, EOFError, OSError, zipfile.BadZipFile):
        raise BadInput("the inputs cannot be read", at=str(file), hint="numpy.savez(file, **arrays) writes what is read here") from None


def write(file: Path, arrays: Mapping[str, Array]) -> None:
    """Write `arrays` for `numpy.load`, all or nothing. `numpy.savez` itself fails where one of them is called 'file'."""
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(aside, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
