"""A tuning database as lines of JSON, and back."""

import json
from pathlib import Path

import pytest

from schedules.tuning.database import Database, Record, Scope
from schedules.tuning.exchange import Loaded, export, load, merge
from stack.errors import StackError

SCOPE = Scope("x86", "0123456789ab", "stack 1, tvm 2")


def filled(file: Path, *tiles: int) -> Database:
    database = Database.open(file)
    for tile in tiles:
        database.record(Record("a" * 16, "conv2d", SCOPE, {"tile": tile}, float(tile), "seconds", moment=float(tile)))
    return database


def test_an_export_loads_into_an_equal_database(tmp_path: Path) -> None:
    first, second = filled(tmp_path / "first.db", 1, 2, 3), filled(tmp_path / "second.db", 3)
    first.add_program("a" * 16, "conv", "conv2d", '{"root": 0}')
    first.save_graph("g", SCOPE, {"attention/0": "fused"}, 1.0)
    assert export(first, tmp_path / "out.jsonl") == 5
    assert load(second, tmp_path / "out.jsonl") == Loaded(added=4, known=1)
    assert load(second, tmp_path / "out.jsonl") == Loaded(added=0, known=5)
    assert list(first.rows()) == list(second.rows())
    first.close()
    second.close()


def test_databases_merge(tmp_path: Path) -> None:
    first, second = filled(tmp_path / "first.db", 1, 2), filled(tmp_path / "second.db", 2, 5)
    assert merge(first, second) == Loaded(added=1, known=1)
    assert [record.cost for record in first.records()] == [1.0, 2.0, 5.0]
    first.close()
    second.close()


def test_a_cut_off_last_line_is_left_out_and_said(tmp_path: Path) -> None:
    database, file = filled(tmp_path / "a.db", 1, 2), tmp_path / "out.jsonl"
    export(database, file)
    file.write_text(file.read_text()[:-20])
    empty = filled(tmp_path / "b.db")
    assert load(empty, file) == Loaded(added=1, known=0, cut=True)
    database.close()
    empty.close()


def test_exports_before_the_newest_schema_load(tmp_path: Path) -> None:
    database, file = filled(tmp_path / "a.db", 1), tmp_path / "out.jsonl"
    export(database, file)
    _, line = file.read_text().splitlines()
    old = {name: value for name, value in json.loads(line).items() if name != "dropped"}
    file.write_text('{"format": "stack-tuning", "schema": 1}\n' + json.dumps(old) + "\n")
    empty = filled(tmp_path / "b.db")
    assert load(empty, file) == Loaded(added=1, known=0)
    database.close()
    empty.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no export of a tuning database"),
        ("nonsense\n", r"not JSON(.|\n)*line 1"),
        ('{"format": "other", "schema": 1}\n', "no export of a tuning database"),
        ('{"format": "stack-tuning", "schema": 99}\n', "has schema 99, and this Stack knows 2 at most"),
        ('{"format": "stack-tuning", "schema": 2}\n{"table": "birds"}\n', r"belongs to no table: 'birds'(.|\n)*line 2"),
        ('{"format": "stack-tuning", "schema": 2}\n[]\n{}\n', "belongs to no table"),
        ('{"format": "stack-tuning", "schema": 2}\n{"table": "graphs", "graph": "g"}\n', "other columns than 'graphs': choices, cost"),
    ],
)
def test_what_is_wrong_is_refused_as_a_whole(tmp_path: Path, text: str, message: str) -> None:
    file, database = tmp_path / "in.jsonl", filled(tmp_path / "a.db")
    file.write_text(text)
    with pytest.raises(StackError, match=message):
        load(database, file)
    assert list(database.rows()) == []
    database.close()


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    database = filled(tmp_path / "a.db")
    with pytest.raises(StackError, match="no such file"):
        load(database, tmp_path / "absent.jsonl")
    database.close()
