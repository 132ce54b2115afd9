"""Tuning databases as users name them: a file or a URL, to read from when compiling and to write to when tuning."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schedules.tuning.database import Database, Record
from stack import knobs
from stack.errors import StackError

MAKE_ONE = "`stackc tune MODEL --database FILE` makes one"


@dataclass(frozen=True)
class Known:
    """What a database has for one target on one kind of machine. `last` is when it was measured last, in seconds since 1970."""

    target: str
    machine: str
    versions: str
    programs: int
    measured: int
    failed: int
    last: float


def overview(database: Database) -> list[Known]:
    """What a database has, by target, machine and versions."""
    groups: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in database.records():
        groups[record.scope.target, record.scope.machine, record.scope.versions].append(record)
    return [
        Known(
            *group,
            programs=len({record.program for record in records}),
            measured=len(records),
            failed=sum(record.failure is not None for record in records),
            last=max(record.moment for record in records),
        )
        for group, records in sorted(groups.items())
    ]


@contextmanager
def existing(name: str | Path) -> Iterator[Database]:
    """The database called `name` while it is read. A file must be there: reading makes none."""
    if "://" not in str(name) and not Path(name).expanduser().is_file():
        raise StackError("there is no such tuning database", at=str(name), hint=MAKE_ONE)
    database = Database.open(name)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def reading(name: str | Path | None) -> Iterator[Database | None]:
    """The database called `name` while it is read, None where no name is given."""
    if name is None or name == "":
        yield None
        return
    with existing(name) as database:
        yield database


def to_write(name: str | Path | None) -> str:
    """What tuning writes to: what was asked for, else what STACK_DATABASE names, else the user's own file, whose folder is made."""
    if name or knobs.database():
        return str(name or knobs.database())
    own = knobs.own_database()
    own.parent.mkdir(parents=True, exist_ok=True)
    return str(own)


@contextmanager
def writing(name: str | Path) -> Iterator[Database]:
    """The database called `name`, made where there is none, while it is written."""
    database = Database.open(to_write(name))
    try:
        yield database
    finally:
        database.close()
