"""A C project is a folder that people work in: compiling the model again must not undo what they did there."""

import json
import os
from pathlib import Path

import pytest

from stack import manifest as manifests
from stack.errors import BadLibrary, StackError
from stack.library import Library

OLD = {"model.c": "old model", "main.c": "main", "board.ld": "memories"}


def project(folder: Path, files: dict[str, str], container: str = "c") -> Library:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    manifest = {
        **{"format": manifests.FORMAT, "name": "tiny", "container": container, "inputs": [], "outputs": [], "arena_bytes": 0},
        **{"target": {"name": "cortex-m4", "family": "cortex_m"}, "versions": {"stack-compiler": "0"}, "operators": []},
        "files": {name: manifests.sha256(folder / name) for name in files},
        "editable": ["board.ld", "main.c"],
    }
    (folder / manifests.NAME).write_text(json.dumps(manifest))
    return Library(folder, manifest)


def texts(folder: Path) -> dict[str, str]:
    found = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file() and file.name != manifests.NAME}
    return {name: file.read_text() for name, file in found.items()}


def test_edited_and_added_files_stay_and_the_model_is_new(tmp_path):
    out = tmp_path / "out"
    project(out, OLD)
    (out / "main.c").write_text("main, edited")
    (out / "drivers").mkdir()
    (out / "drivers/sensor.c").write_text("theirs")
    os.utime(out / "main.c", (10, 10))
    project(tmp_path / "new", OLD | {"model.c": "new model"}).save(out)
    assert texts(out) == {"model.c": "new model", "main.c": "main, edited", "board.ld": "memories", "drivers/sensor.c": "theirs"}
    assert (out / "main.c").stat().st_mtime == 10
    project(tmp_path / "newer", OLD | {"model.c": "newer model"}).save(out)
    assert texts(out)["main.c"] == "main, edited"


def test_generated_files_that_nobody_edited_are_replaced_or_go(tmp_path):
    out = tmp_path / "out"
    project(out, OLD)
    (out / "model.c").write_text("not to be edited")
    project(tmp_path / "new", {"model.c": "new model", "board.ld": "other memories"}).save(out)
    assert texts(out) == {"model.c": "new model", "board.ld": "other memories"}


def test_an_edited_file_that_would_be_generated_otherwise_is_not_lost(tmp_path):
    out = tmp_path / "out"
    project(out, OLD)
    (out / "board.ld").write_text("memories, edited")
    with pytest.raises(StackError) as caught:
        project(tmp_path / "new", OLD | {"board.ld": "other memories"}).save(out)
    assert str(caught.value) == (
        f"error: you edited a file that must now be another\n  at: {out}/board.ld\n"
        "  hint: compile into a new folder and bring your changes there, or move the file away"
    )
    assert texts(out) == OLD | {"board.ld": "memories, edited"}


def test_other_libraries_are_replaced_as_a_whole(tmp_path):
    out = tmp_path / "out"
    project(out, {"lib.so": "code"}, "native")
    (out / "more").write_text("theirs")
    project(tmp_path / "new", {"lib.so": "new code"}, "native").save(out)
    assert texts(out) == {"lib.so": "new code"}


def test_an_edited_project_is_whole_but_for_its_model(tmp_path):
    library = project(tmp_path / "out", OLD)
    (library.folder / "main.c").write_text("main, edited")
    assert manifests.read(library.folder) == library.manifest
    (library.folder / "model.c").write_text("edited")
    with pytest.raises(BadLibrary) as caught:
        manifests.read(library.folder)
    assert caught.value.what == "a file of the library was altered since it was made"
