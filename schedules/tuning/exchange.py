"""A tuning database as lines of JSON, and back: to look at, to mail, to merge what several machines found.

    {"format": "stack-tuning", "schema": 2}
    {"table": "records", "id": "...", "program": "e21b5350000f0378", "point": "{\"tile_w\": 14}", "cost": 0.00061, ...}

A line that is known already adds nothing, so that files may overlap. A last line that was cut off, as by a full disk, is left out and said;
anything else that is wrong is refused as a whole.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from schedules.tuning.database import SCHEMA, Database, graphs, insert_new, programs, records
from stack.errors import StackError

FORMAT = "stack-tuning"
TABLES = {table.name: table for table in (programs, records, graphs)}
DEFAULTS = {"records": {"dropped": ""}}  # what older schemas do not have
BATCH = 500


@dataclass(frozen=True)
class Loaded:
    """How many rows were new, how many known, and whether the last line was cut off."""

    added: int
    known: int
    cut: bool = False


def export(database: Database, file: Path) -> int:
    """Write everything but sessions into `file`, all or nothing; returns how many rows."""
    aside = file.with_name(f".{file.name}.part")
    count = 0
    try:
        with aside.open("w", encoding="utf-8") as out:
            out.write(json.dumps({"format": FORMAT, "schema": SCHEMA}) + "\n")
            for name, row in database.rows():
                out.write(json.dumps({"table": name, **row}) + "\n")
                count += 1
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
    return count


def load(database: Database, file: Path) -> Loaded:
    """Add the rows of `file`, all or none; StackError where a line is not of this format."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        raise StackError("no such file", at=str(file)) from None
    except UnicodeDecodeError:
        raise StackError("this is not a file of JSON lines", at=str(file)) from None
    cut = bool(lines) and not lines[-1].endswith("\n") and not is_json(lines[-1])
    rows = list(parse(lines[:-1] if cut else lines, file))
    return add(database, rows, cut)


def merge(database: Database, other: Database) -> Loaded:
    """Add everything that `other` has."""
    return add(database, list(other.rows()), cut=False)


def add(database: Database, rows: list[tuple[str, dict[str, Any]]], cut: bool) -> Loaded:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, row in rows:
        groups[name].append(row)
    with database.writer.begin() as connection:
        before = size(connection)
        for name, group in groups.items():
            for first in range(0, len(group), BATCH):
                insert_new(connection, TABLES[name], group[first : first + BATCH])
        added = size(connection) - before
    return Loaded(added, len(rows) - added, cut)


def size(connection: Connection) -> int:
    return sum(connection.scalar(select(func.count()).select_from(table)) or 0 for table in TABLES.values())


def is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def parse(lines: list[str], file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows in `lines`; StackError names the first wrong one."""
    if not lines:
        check_head(None, str(file))
    for number, line in enumerate(lines, 1):
        at = f"{file}, line {number}"
        try:
            entry = json.loads(line)
        except ValueError:
            raise StackError("this line is not JSON", at=at, hint="nothing was imported") from None
        if number == 1:
            check_head(entry, at)
            continue
        name = entry.pop("table", None) if isinstance(entry, dict) else None
        table = TABLES.get(str(name))
        if table is None:
            raise StackError(f"this line belongs to no table: {name!r}", at=at, hint="nothing was imported")
        row = {**DEFAULTS.get(table.name, {}), **entry}
        wrong = row.keys() ^ {column.name for column in table.columns}
        if wrong:
            raise StackError(f"this line has other columns than '{name}': {', '.join(sorted(wrong))}", at=at, hint="nothing was imported")
        yield table.name, row


def check_head(entry: Any, at: str) -> None:
    if not isinstance(entry, dict) or entry.get("format") != FORMAT or not isinstance(entry.get("schema"), int):
        raise StackError("this is no export of a tuning database", at=at, hint='its first line would be {"format": "stack-tuning", ...}')
    if entry["schema"] > SCHEMA:
        raise StackError(f"this export has schema {entry['schema']}, and this Stack knows {SCHEMA} at most", at=at, hint="update Stack")
