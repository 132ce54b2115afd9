"""A compiled model: a folder of files, and the way to run it.

    library = stack.load("out/")
    outputs = library.run({"x": array})     # dict of numpy arrays, by output name

A library for this CPU needs no TVM to load or run.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from stack import manifest as manifests
from stack.errors import BadInput, BadLibrary, StackError
from stack.keep_edits import keep_edits
from stack.manifest import Tensor
from targets import runner as runners
from targets.runner import Array, Runner


class Library:
    """A compiled model. `stack.compile` and `stack.load` make one; several Python threads may use it at once.

    `threads` is how many threads one call computes with. `folder` is where its files lie; `manifest` is what `manifest.json` says.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], threads: int | None = None, place: Mapping[str, str] | None = None) -> None:
        """Users call `stack.load`. `place` is what else the family's runner is told: on which board to run."""
        self._place = place or {}
        self.folder, self.manifest = folder, manifest
        self.threads = checked_threads(threads)
        self.inputs, self.outputs = manifests.tensors(manifest["inputs"]), manifests.tensors(manifest["outputs"])
        self._runner: Runner | None = None
        self._opening = threading.Lock()

    @property
    def runner(self) -> Runner:
        """Opened on first use, since a library may be compiled for another machine than this one."""
        with self._opening:
            if self._runner is None:
                self._runner = open_runner(self.folder, self.manifest, self.threads, self._place)
        return self._runner

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, tensors)) for tensors in (self.inputs, self.outputs))
        return f"<Library {self.manifest['name']} for {self.manifest['target']['name']}: ({inputs}) -> ({outputs})>"

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Compute the outputs, by name, from one array for each input, by name.

        An array is a numpy array or anything with DLPack (a torch tensor on the CPU ...), of exactly the shape and dtype that the model
        has; one that is dense and aligned is read where it lies. BadInput says which array is wrong. The GIL is released meanwhile.

            >>> sorted(library.run({"x": np.zeros((1, 4), np.float32)}))
            ['y']
        """
        arrays, outputs = self.arrays(inputs), self.empty_outputs()
        self.runner.run(arrays, outputs)
        return {tensor.name: output for tensor, output in zip(self.outputs, outputs, strict=True)}

    def profile(self, inputs: Mapping[str, Any]) -> list[float]:
        """Run once; the seconds spent in each entry of `manifest["operators"]`, or what else `unit` says.

        >>> len(library.profile({"x": np.zeros((1, 4), np.float32)})) == len(library.manifest["operators"])
        True
        """
        return self.runner.profile(self.arrays(inputs), self.empty_outputs())

    @property
    def unit(self) -> str:
        """What `profile` counts in: seconds, instructions (of firmware in QEMU) or cycles (of firmware on a board)."""
        return self.runner.unit

    def save(self, folder: str | Path) -> None:
        """Copy the library into `folder`, all of it or nothing. Replaces an older library there, and refuses to replace anything else.

        What users edited or added in a C project stays.

        >>> library.save(folder)
        >>> stack.load(folder).outputs == library.outputs
        True
        """
        folder = Path(folder)
        check_destination(folder)
        parent = folder.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=parent) as aside:  # same file system, so that rename is one step
            new, old = Path(aside, "new"), Path(aside, "old")
            new.mkdir()
            for name in (*self.manifest["files"], manifests.NAME):
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / name, new / name)
            if manifests.is_library(folder):
                keep_edits(folder, new)
            if folder.exists():
                folder.rename(old)
            try:
                new.rename(folder)
            except BaseException:
                if old.exists():
                    old.rename(folder)
                raise

    def arrays(self, inputs: Mapping[str, Any]) -> list[Array]:
        """`inputs` as dense arrays in the manifest's order; BadInput where one is missing, unknown or does not fit."""
        names = [tensor.name for tensor in self.inputs]
        for name in inputs:
            if name not in names:
                close = get_close_matches(str(name), names, n=1)
                known = f"the inputs are {', '.join(map(str, self.inputs))}" if names else "the model has no inputs"
                raise BadInput(f"the model has no input '{name}'", hint=f"did you mean '{close[0]}'?" if close else known)
        missing = [str(tensor) for tensor in self.inputs if tensor.name not in inputs]
        if missing:
            raise BadInput(f"no array was given for {', '.join(missing)}", hint="the dict must have an array for every input")
        return [checked(tensor, inputs[tensor.name]) for tensor in self.inputs]

    def empty_outputs(self) -> list[Array]:
        return [np.empty(tensor.shape, numpy_dtype(tensor.dtype)) for tensor in self.outputs]


def load(folder: str | Path, *, threads: int | None = None, board: str = "", port: str = "") -> Library:
    """Open a saved library. `threads` is how many threads one call computes with (default: the cores this process may use).

    A C project runs as firmware, in QEMU: on the board that it was compiled for, or on another called `board`. With `port` it runs on the
    real board at that serial port, which must have been flashed with `stackc flash --harness`.

    BadLibrary says what is wrong with the folder, or what this machine lacks.

        >>> stack.load(folder, threads=1).threads
        1
    """
    manifest = manifests.read(Path(folder))
    place = {title: word for title, word in (("board", board), ("port", port)) if word}
    if place and manifest["container"] != "c":
        raise BadInput(f"a library for '{manifest['target']['name']}' runs on no board", at=f"{folder}, {', '.join(place)}")
    library = Library(Path(folder), manifest, threads, place)
    assert library.runner, "opened here, so that a library that cannot run says so at once"
    return library


def open_runner(folder: Path, manifest: dict[str, Any], threads: int, place: Mapping[str, str]) -> Runner:
    """The runner of the library's family; `place` is for those that take more than files and threads."""
    family = manifest["target"]["family"]
    if not family.isidentifier() or not (Path(runners.__file__).parent / family / "runner.py").is_file():
        raise BadLibrary(f"libraries for '{family}' do not run on this machine", at=str(folder))
    module = import_module(f"targets.{family}.runner")
    runner: Runner = module.open_runner(folder, manifest, threads, **place)
    return runner


def checked_threads(threads: int | None) -> int:
    """`threads`, or where it is None every core this process may use."""
    if threads is None:
        return len(os.sched_getaffinity(0))
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise BadInput(f"threads must be a whole number of at least 1, not {threads!r}")
    return threads


def check_destination(folder: Path) -> None:
    """StackError where `folder` holds something that is no library of ours."""
    if folder.is_dir():
        if any(folder.iterdir()) and not manifests.is_library(folder):
            raise StackError("the folder holds something else than a library", at=str(folder), hint="name an empty or new folder")
    elif folder.exists() or folder.is_symlink():
        raise StackError("the place for the library is a file", at=str(folder), hint="name an empty or new folder")


def numpy_dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes  # numpy itself has no such type

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def checked(tensor: Tensor, value: Any) -> Array:
    """`value` as a dense, aligned array, copied only where it is not one already."""
    array = as_array(tensor, value)
    dtype = numpy_dtype(tensor.dtype)
    if array.dtype != dtype:
        raise BadInput(
            f"input '{tensor.name}' is {array.dtype}, and the model takes {tensor.dtype}",
            hint=f'convert it where it is made, or with .astype("{tensor.dtype}")',
        )
    if array.shape != tensor.shape:
        raise BadInput(
            f"input '{tensor.name}' has shape {array.shape}, and the library was compiled for {tensor.shape}",
            hint="give an array of that shape, or compile the model again with another --shape",
        )
    return np.require(array, requirements=["C", "A"])


def as_array(tensor: Tensor, value: Any) -> Array:
    if isinstance(value, np.ndarray):
        return value
    if not hasattr(value, "__dlpack__"):
        raise BadInput(
            f"input '{tensor.name}' is a {type(value).__name__}, not an array",
            hint=f'numpy.asarray(value, "{tensor.dtype}") makes one',
        )
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise BadInput(
            f"input '{tensor.name}' is a {type(value).__name__} that cannot be read as a numpy array: {error}",
            hint="move it to the CPU and detach it first",
        ) from None
