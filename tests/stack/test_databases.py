"""`stackc database`: what a tuning database has, and exchanging it."""

from pathlib import Path

import pytest

from schedules.tuning.database import Database, Record, Scope
from stack.cli import main

SCOPE = Scope("x86", "0123456789ab", "stack 1, tvm 2")


def filled(file: Path, *tiles: int) -> str:
    store = Database.open(file)
    for tile in tiles:
        store.record(Record("a" * 16, "conv2d", SCOPE, {"tile": tile}, float(tile), "seconds", moment=float(tile)))
    store.record(Record("b" * 16, "conv2d", SCOPE, {"tile": 1}, None, "seconds", failure="timed out", moment=9.0))
    store.close()
    return str(file)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["database", *words])
    return status, *capsys.readouterr()


def test_it_lists_what_a_database_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, filled(tmp_path / "a.db", 1, 2))
    assert status == 0
    row = next(line for line in out.splitlines() if "0123456789ab" in line)
    assert row.split()[-5:-2] == ["2", "3", "1"]


def test_databases_are_exported_imported_and_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, lines, second = filled(tmp_path / "a.db", 1, 2), str(tmp_path / "a.jsonl"), str(tmp_path / "b.db")
    assert run(capsys, first, "--export", lines)[:2] == (0, f"3 rows written to {lines}\n")
    assert run(capsys, second, "--import", lines)[:2] == (0, "3 rows added, 0 known already\n")
    third = filled(tmp_path / "c.db", 2, 7)
    assert run(capsys, second, "--merge", third)[:2] == (0, "1 rows added, 2 known already\n")
    Path(lines).write_text(Path(lines).read_text()[:-9])
    assert "the last line was cut off" in run(capsys, second, "--import", lines)[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.db"], "there is no such tuning database"),
        (["absent.db", "--export", "out.jsonl"], "there is no such tuning database"),
        (["new.db", "--merge", "absent.db"], "there is no such tuning database"),
        (["new.db", "--import", "absent.jsonl"], "no such file"),
        (["new.db", "--import", "a.jsonl", "--export", "b.jsonl"], "not allowed with argument"),
    ],
)
def test_what_is_not_there_is_said(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, error = run(capsys, *words)
    assert status == 2
    assert message in error
