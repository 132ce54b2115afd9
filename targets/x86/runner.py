"""Run a native library through its C entry points. Needs neither TVM nor a compiler.

ctypes lets go of the GIL for the length of a call, and the C side gives each call its own arena, so threads do not wait for each other.
"""

import ctypes
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stack.errors import BadLibrary
from targets.runner import Array
from targets.x86.detect import cpu_flags, cpu_name


class NativeRunner:
    """Pointers in, pointers out."""

    unit = "seconds"

    def __init__(self, folder: Path, name: str, operators: int, threads: int) -> None:
        file = folder / f"lib{name}.so"
        try:
            dll = ctypes.CDLL(str(file), use_errno=True)
        except OSError as error:
            raise BadLibrary("the system could not load the shared library", at=str(file), hint=str(error)) from None
        opener, closer = getattr(dll, f"{name}_open"), getattr(dll, f"{name}_close")
        opener.restype, opener.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
        closer.restype, closer.argtypes = None, [ctypes.c_void_p]
        self.handle = opener(os.fsencode(folder / "weights.bin"), threads)
        if not self.handle:
            raise BadLibrary("the library could not be opened", at=str(folder), hint=os.strerror(ctypes.get_errno()))
        self.operators = operators
        self.call, self.timed = getattr(dll, f"{name}_call"), getattr(dll, f"{name}_profile")
        self.call.argtypes = [ctypes.c_void_p] * 3
        self.timed.argtypes = [ctypes.c_void_p] * 4
        self.close = weakref.finalize(self, closer, self.handle)  # a running call holds `self`, so this never comes too early
        self.close.atexit = False  # threads may still compute then, and the process gives everything back anyway

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        check(self.call(self.handle, pointers(inputs), pointers(outputs)))

    def profile(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> list[float]:
        seconds = (ctypes.c_double * self.operators)()
        check(self.timed(self.handle, pointers(inputs), pointers(outputs), seconds))
        return list(seconds)


def pointers(arrays: Sequence[Array]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])


def check(code: int) -> None:
    """A kernel returns 0; anything else is the system's lack of memory, or a fault of ours."""
    if code > 0:
        raise MemoryError(os.strerror(code))
    if code < 0:
        raise RuntimeError(f"a kernel returned {code}")


def open_runner(folder: Path, manifest: dict[str, Any], threads: int) -> NativeRunner:
    """Open the library in `folder`; BadLibrary where this CPU lacks what it was compiled for."""
    target = manifest["target"]
    missing = [feature for feature in target["features"] if feature not in cpu_flags()]
    if missing:
        raise BadLibrary(
            f"this CPU lacks what the library was compiled for: {', '.join(missing)}",
            at=f"{folder}, compiled for target '{target['name']}'; this is {cpu_name()}",
            hint="compile the model again with -t x86 on this machine, or with a target that it has; `stackc targets` lists them",
        )
    return NativeRunner(folder, manifest["name"], len(manifest["operators"]), threads)
