"""Tuning databases as users name them: a file or a URL, to read from when compiling and to write to when tuning."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schedules.tuning.database import Database
from stack import knobs
from stack.errors import StackError

MAKE_ONE = "`stackc tune MODEL --database FILE` makes one"


@contextmanager
def reading(name: str | Path | None) -> Iterator[Database | None]:
    """The database called `name` while it is read, None where no name is given. A file must be there: compiling makes none."""
    if name is None or name == "":
        yield None
        return
    if "://" not in str(name) and not Path(name).expanduser().is_file():
        raise StackError("there is no such tuning database", at=str(name), hint=MAKE_ONE)
    database = Database.open(name)
    try:
        yield database
    finally:
        database.close()


def to_write(name: str | Path | None) -> str:
    """What tuning writes to: what was asked for, else what STACK_DATABASE names, else the user's own file, whose folder is made."""
    if name or knobs.database():
        return str(name or knobs.database())
    own = knobs.own_database()
    own.parent.mkdir(parents=True, exist_ok=True)
    return str(own)
