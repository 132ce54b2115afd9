import shutil
import subprocess

import pytest

from stack.emit import native
from stack.emit.cc import find_cc
from stack.errors import StackError, ToolMissing


def test_without_a_compiler_the_error_has_the_command(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolMissing) as caught:
        find_cc()
    assert str(caught.value) == ("error: no C compiler was found\n  at: cc, gcc or clang on PATH\n  hint: apt-get install gcc libc6-dev")


def test_any_of_the_usual_compilers_will_do(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: "/opt/clang" if name == "clang" else None)
    assert str(find_cc()) == "/opt/clang"


def test_what_the_compiler_says_is_shown(tmp_path):
    with pytest.raises(StackError) as caught:
        native.link("m", "this is no C\n", [], tmp_path, tmp_path)
    assert str(caught.value).startswith(f"error: the C compiler could not link the library\n  at: {find_cc()}\n  hint: ")
    assert "m.c:1" in str(caught.value)


def test_the_compiler_we_find_runs():
    assert subprocess.run([find_cc(), "--version"], capture_output=True).returncode == 0
