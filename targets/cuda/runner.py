"""Run a CUDA library through its C entry points. Opening touches no GPU: the first run does, so a library can be made and moved anywhere.

ctypes lets go of the GIL for the length of a call, and the C side gives each call its own stream and memory on the GPU.
"""

import ctypes
import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stack.errors import BadLibrary, StackError
from targets.runner import Array

# stack/runtime/cuda/device.h; what is above 0 comes from the driver itself.
NO_DRIVER, NO_GPU, OTHER_GPU, BAD_WEIGHTS, NO_MEMORY = -1, -2, -3, -4, -5
OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
HINTS = {
    NO_DRIVER: "run it on a machine with an NVIDIA GPU and its driver (`nvidia-smi` shows both); compiling needs neither",
    NO_GPU: "run it on a machine with an NVIDIA GPU; `nvidia-smi` lists those that the driver sees",
    OTHER_GPU: "compile the model again for the GPU that is here; `stackc targets` lists them",
    OUT_OF_MEMORY: "the GPU's memory is taken; `nvidia-smi` shows by whom",
}


class CudaRunner:
    """Pointers in, pointers out, on GPU number 0 (of those that CUDA_VISIBLE_DEVICES leaves)."""

    unit = "seconds"

    def __init__(self, folder: Path, name: str, operators: int) -> None:
        self.folder, self.operators = folder, operators
        self.file = folder / f"lib{name}.so"
        try:
            dll = ctypes.CDLL(str(self.file))
        except OSError as error:
            raise BadLibrary("the system could not load the shared library", at=str(self.file), hint=str(error)) from None
        self.opener, self.closer, self.error = getattr(dll, f"{name}_open"), getattr(dll, f"{name}_close"), getattr(dll, f"{name}_error")
        self.opener.restype, self.opener.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
        self.closer.restype, self.closer.argtypes = None, [ctypes.c_void_p]
        self.error.argtypes = [ctypes.POINTER(ctypes.c_char_p)]
        self.call, self.timed = getattr(dll, f"{name}_call"), getattr(dll, f"{name}_profile")
        self.call.argtypes = [ctypes.c_void_p] * 3
        self.timed.argtypes = [ctypes.c_void_p] * 4
        self._handle: int | None = None
        self._opening = threading.Lock()
        self._finalizer: weakref.finalize[[int], CudaRunner] | None = None

    @property
    def handle(self) -> int:
        with self._opening:
            if self._handle is None:
                handle = self.opener(os.fsencode(self.folder / "weights.bin"), 0)
                if not handle:
                    raise self.failure()
                self._handle = handle
                self._finalizer = weakref.finalize(self, self.closer, handle)
                self._finalizer.atexit = False  # the driver may be gone by then, and the process gives everything back anyway
            return self._handle

    def failure(self) -> Exception:
        """What the C side says about this thread's last failure."""
        text = ctypes.c_char_p()
        code = self.error(ctypes.byref(text))
        what = (text.value or b"").decode(errors="replace")
        if code == NO_MEMORY:
            return MemoryError(what)
        kind = BadLibrary if code in (OTHER_GPU, BAD_WEIGHTS) else StackError
        return kind(what, at=str(self.file), hint=HINTS.get(code))

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        if self.call(self.handle, pointers(inputs), pointers(outputs)):
            raise self.failure()

    def profile(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> list[float]:
        """Seconds on the GPU of each operator, between events around it."""
        seconds = (ctypes.c_double * self.operators)()
        if self.timed(self.handle, pointers(inputs), pointers(outputs), seconds):
            raise self.failure()
        return list(seconds)

    def close(self) -> None:
        if self._finalizer:
            self._finalizer()


def pointers(arrays: Sequence[Array]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])


def open_runner(folder: Path, manifest: dict[str, Any], threads: int) -> CudaRunner:
    """Open the library in `folder`. `threads` means nothing to a GPU."""
    return CudaRunner(folder, manifest["name"], len(manifest["operators"]))
