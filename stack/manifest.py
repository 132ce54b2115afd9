"""`manifest.json`, the page at the front of every library: what it computes, for which machine, who made it, and the hash of each file.

{"format": 1, "name": "resnet18", "container": "native", "target": {"name": "x86", "family": "x86", "features": [...], ...},
 "inputs": [{"name": "x", "shape": [1, 3, 224, 224], "dtype": "float32"}], "outputs": [...], "operators": [...], "files": {...}, ...}
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.errors import BadLibrary

NAME = "manifest.json"
FORMAT = 1  # raise it when a library of the old form cannot be loaded any more
KEYS = {"name", "container", "target", "inputs", "outputs", "arena_bytes", "operators", "files"}
AGAIN = "compile the model again, or copy the library again from where it came from"


@dataclass(frozen=True)
class Tensor:
    """One input or output, under the name that the model's file gives it."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"


def tensors(entries: list[dict[str, Any]]) -> list[Tensor]:
    return [Tensor(entry["name"], tuple(entry["shape"]), entry["dtype"]) for entry in entries]


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_library(folder: Path) -> bool:
    """Whether `folder` holds a library that some version of Stack wrote, whole or damaged."""
    try:
        manifest = json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and {"format", "container", "files"} <= manifest.keys()


def read(folder: Path) -> dict[str, Any]:
    """The manifest of the library in `folder`, after checking that every file is the one that was written. BadLibrary otherwise."""
    manifest = parse(folder)
    check_files(folder, manifest)
    return manifest


def parse(folder: Path) -> dict[str, Any]:
    """The manifest of the library in `folder`, without a look at the other files."""
    file = folder / NAME
    if not file.is_file():
        what = "no such folder" if not folder.exists() else "this is no library: it has no manifest.json"
        raise BadLibrary(what, at=str(folder), hint="`stackc compile MODEL -t TARGET -o DIR` makes one")
    try:
        manifest = json.loads(file.read_text())
        format_, made_by = manifest["format"], manifest["versions"]["stack-compiler"]
        if format_ == FORMAT and not manifest.keys() >= KEYS:
            raise KeyError
    except (ValueError, KeyError, TypeError):
        raise BadLibrary("the manifest cannot be read", at=str(file), hint=AGAIN) from None
    if format_ != FORMAT:
        raise BadLibrary(
            f"the library has format {format_}, and this version of Stack reads format {FORMAT}",
            at=str(file),
            hint=f"compile the model again, or install stack-compiler=={made_by}, which made it",
        )
    assert isinstance(manifest, dict)
    return manifest


def check_files(folder: Path, manifest: dict[str, Any]) -> None:
    for name, digest in manifest["files"].items():
        file = folder / name
        if not file.is_file():
            raise BadLibrary("a file of the library is missing", at=str(file), hint=AGAIN)
        if name not in manifest.get("editable", ()) and sha256(file) != digest:
            raise BadLibrary("a file of the library was altered since it was made", at=str(file), hint=AGAIN)
