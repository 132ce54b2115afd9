"""Run a C project on this machine, through ctypes: every intrinsic but Helium's has portable C."""

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from stack.emit.cc import find_cc
from stack.library import Library

Array = np.ndarray[Any, np.dtype[Any]]
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")


class HostModel:
    """`library`, a C project, as a callable: arrays in, arrays out, in the manifest's order. A streaming network keeps its state."""

    def __init__(self, library: Library, work: Path, flags: tuple[str, ...] = ("-O1",)) -> None:
        self.manifest, name = library.manifest, library.manifest["name"]
        made = work / f"{name}-host.so"
        sources = [str(library.folder / file) for file in ("model.c", "weights.c")]
        command = [str(find_cc()), *WARNINGS, *flags, "-fno-strict-aliasing", "-shared", "-fPIC", "-o", str(made), *sources, "-lm"]
        subprocess.run(command, check=True)
        dll = ctypes.CDLL(str(made))
        self.call = getattr(dll, f"{name}_run")
        self.call.restype = ctypes.c_int
        self.arenas = [aligned(entry["bytes"]) for entry in self.manifest["arenas"]]
        self.state: Array | None = None
        if self.manifest["states"]:
            size = sum(int(np.prod(entry["shape"])) * np.dtype(entry["dtype"]).itemsize + 8 for entry in self.manifest["states"])
            self.state = aligned(size)
            getattr(dll, f"{name}_reset")(ctypes.c_void_p(self.state.ctypes.data))

    def __call__(self, *inputs: Array) -> list[Array]:
        outputs = [np.empty(entry["shape"], entry["dtype"]) for entry in self.manifest["outputs"]]
        dense = [np.ascontiguousarray(array) for array in inputs]
        arrays = [*([] if self.state is None else [self.state]), *dense, *outputs, *self.arenas]
        assert self.call(*[ctypes.c_void_p(array.ctypes.data) for array in arrays]) == 0
        return outputs


def aligned(count: int) -> Array:
    """`count` bytes at an address that is a multiple of 16, with a guard after them that nothing may touch."""
    room = np.full(count + 32, 0x5A, np.uint8)
    start = -room.ctypes.data % 16
    return room[start : start + count]
