"""Rules of the house that a reader should be able to trust without checking."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "relay_passes": set(),
    "schedules": set(),
    "targets": {"relay_passes", "schedules"},
    "stack": {"relay_passes", "schedules", "targets"},
}
LEAVES = {"stack.errors", "schedules.machine", "schedules.integer"}  # data only: any layer may use them
PYTHON = sorted(file for package in MAY_IMPORT for file in (ROOT / package).rglob("*.py"))
SOURCES = sorted(PYTHON + [file for package in MAY_IMPORT for kind in ("*.c", "*.h") for file in (ROOT / package).rglob(kind)])


def title(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def imports(file: Path) -> set[str]:
    """The modules of ours that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} if node.module in MAY_IMPORT else {node.module}
    return {name for name in found if name.split(".")[0] in MAY_IMPORT}


@pytest.mark.parametrize("file", PYTHON, ids=title)
def test_imports_point_down(file: Path) -> None:
    package = title(file).split("/")[0]
    allowed = MAY_IMPORT[package] | {package}
    upward = {name for name in imports(file) if name not in LEAVES and name.split(".")[0] not in allowed}
    assert not upward, f"{package} may not import {', '.join(sorted(upward))}"


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_a_leaf_imports_nothing_of_ours(leaf: str) -> None:
    assert not imports(ROOT / (leaf.replace(".", "/") + ".py"))


@pytest.mark.parametrize("file", SOURCES, ids=title)
def test_a_file_fits_in_the_head(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 400


@pytest.mark.parametrize("file", [file for file in PYTHON if file.stat().st_size], ids=title)
def test_a_file_says_first_what_it_is(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text())), "the file opens with no docstring"


def test_the_architecture_page_has_a_line_for_every_file_and_no_other() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"^- `([^`]+)`: \S", page, re.MULTILINE)
    files = {title(file) for file in SOURCES if file.name != "__init__.py"}
    assert sorted(files - set(named)) == [], "files without a line in docs/architecture.md"
    assert sorted(set(named) - files) == [], "lines in docs/architecture.md without a file"
    assert len(named) == len(set(named)), "a file has two lines in docs/architecture.md"
