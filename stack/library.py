"""A compiled model: a folder of files, and the way to run it. Needs no TVM for the native container."""

import ctypes
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class Library:
    def __init__(self, folder: Path, manifest: dict[str, Any], threads: int, keep: object = None) -> None:
        self.folder, self.manifest, self.threads, self._keep = folder, manifest, threads, keep
        name = manifest["name"]
        self._dll = ctypes.CDLL(str(folder / f"lib{name}.so"))
        open_ = getattr(self._dll, f"{name}_open")
        open_.restype = ctypes.c_void_p
        self._handle = open_(str(folder / "weights.bin").encode(), threads)
        self._call = getattr(self._dll, f"{name}_call")
        self._profile = getattr(self._dll, f"{name}_profile")

    @classmethod
    def open(cls, folder: Path, threads: int | None = None, keep: object = None) -> "Library":
        manifest = json.loads((folder / "manifest.json").read_text())
        return cls(folder, manifest, threads or len(os.sched_getaffinity(0)), keep)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        arrays = [np.ascontiguousarray(inputs[spec["name"]]) for spec in self.manifest["inputs"]]
        outs = [np.empty(spec["shape"], spec["dtype"]) for spec in self.manifest["outputs"]]
        pi = (ctypes.c_void_p * max(1, len(arrays)))(*[a.ctypes.data for a in arrays])
        po = (ctypes.c_void_p * len(outs))(*[a.ctypes.data for a in outs])
        code = self._call(ctypes.c_void_p(self._handle), pi, po)
        assert code == 0, code
        return {spec["name"]: out for spec, out in zip(self.manifest["outputs"], outs, strict=True)}

    def step_seconds(self, inputs: Mapping[str, Any]) -> list[float]:
        arrays = [np.ascontiguousarray(inputs[spec["name"]]) for spec in self.manifest["inputs"]]
        outs = [np.empty(spec["shape"], spec["dtype"]) for spec in self.manifest["outputs"]]
        pi = (ctypes.c_void_p * max(1, len(arrays)))(*[a.ctypes.data for a in arrays])
        po = (ctypes.c_void_p * len(outs))(*[a.ctypes.data for a in outs])
        sec = (ctypes.c_double * len(self.manifest["operators"]))()
        code = self._profile(ctypes.c_void_p(self._handle), pi, po, sec)
        assert code == 0, code
        return list(sec)
