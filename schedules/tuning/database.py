"""What was measured and decided, kept in SQLite or PostgreSQL: any number of processes write, and a killed one loses only what it had not
recorded.

    database = Database.open("tuning.db")            or "postgresql://user@host/tuning"
    database.record(Record("e21b5350000f0378", "conv2d", scope, {"tile_w": 14, "tile_k": 2}, cost=6.1e-4, unit="seconds"))
    database.best("e21b5350000f0378", scope).point   ->   {"tile_w": 14, "tile_k": 2}

Each record is a transaction of its own. SQLite keeps a write-ahead log, so that readers never wait and writers only for each other.
"""

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy
from sqlalchemy import Boolean, Column, Connection, Engine, Float, MetaData, String, Table, Text, event, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import RowMapping, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from schedules.machine import Machine
from schedules.space import Point
from schedules.tuning.task import machine_key
from stack.errors import StackError

SCHEMA = 2
LOCK = 0x57ACC  # any number of our own: only one process at a time makes PostgreSQL's tables
UNITS = ("seconds", "cycles", "instructions")  # the first that there is decides: what a board took goes before what QEMU counted
PATIENCE = 60.0  # seconds that a writer waits for another one
DRIVER = "postgresql+pg8000"  # of the URLs that name none: what the extra `farm` brings

# How an older database becomes one of the next schema. 1 -> 2: results that fail in the whole model are dropped, and say why.
MIGRATIONS: dict[int, Sequence[str]] = {1: ("ALTER TABLE records ADD COLUMN dropped TEXT DEFAULT '' NOT NULL",)}

tables = MetaData()
about = Table("about", tables, Column("name", String(40), primary_key=True), Column("value", Text, nullable=False))
programs = Table(
    "programs",
    tables,
    Column("program", String(16), primary_key=True),
    Column("name", Text, nullable=False),
    Column("rule", String(80), nullable=False),
    Column("text", Text, nullable=False),
)
records = Table(
    "records",
    tables,
    Column("id", String(32), primary_key=True),
    Column("program", String(16), nullable=False, index=True),
    Column("rule", String(80), nullable=False),
    Column("target", String(80), nullable=False),
    Column("machine", String(12), nullable=False),
    Column("versions", String(80), nullable=False),
    Column("point", Text, nullable=False),
    Column("cost", Float),
    Column("unit", String(20), nullable=False),
    Column("spread", Float, nullable=False),
    Column("settled", Boolean, nullable=False),
    Column("failure", String(40)),
    Column("detail", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("precision", String(8), nullable=False),
    Column("moment", Float, nullable=False),
    Column("dropped", Text, nullable=False, server_default=""),
)
graphs = Table(
    "graphs",
    tables,
    Column("graph", String(64), primary_key=True),
    Column("target", String(80), primary_key=True),
    Column("machine", String(12), primary_key=True),
    Column("versions", String(80), primary_key=True),
    Column("choices", Text, nullable=False),
    Column("cost", Float, nullable=False),
)
sessions = Table("sessions", tables, Column("session", String(64), primary_key=True), Column("state", Text, nullable=False))


@dataclass(frozen=True)
class Scope:
    """For whom a result holds: a target's name, the key of its machine's numbers, and the versions of what makes the code."""

    target: str
    machine: str
    versions: str

    @classmethod
    def of(cls, target: str, machine: Machine) -> "Scope":
        return cls(target, machine_key(machine), f"stack {version('stack-compiler')}, tvm {version('apache-tvm')}")


@dataclass(frozen=True)
class Record:
    """One measurement. `cost` is in `unit`, one of UNITS, None where it failed, and `failure` then says how."""

    program: str
    rule: str
    scope: Scope
    point: Point
    cost: float | None
    unit: str
    spread: float = 0.0
    settled: bool = True
    failure: str | None = None
    detail: str = ""
    device: str = ""
    precision: str = "f32"
    moment: float = field(default_factory=time.time)  # seconds since 1970, UTC
    dropped: str = ""

    @property
    def good(self) -> bool:
        """Whether it may become a decision."""
        return self.cost is not None and self.failure is None and self.settled and not self.dropped

    def row(self) -> dict[str, Any]:
        """As a row of the table; the same measurement has the same id in every database."""
        row = {**asdict(self), **asdict(self.scope), "point": text_of(self.point)}
        del row["scope"]
        named = json.dumps({**row, "dropped": ""}, sort_keys=True)
        return {"id": hashlib.sha256(named.encode()).hexdigest()[:32], **row}

    @classmethod
    def of(cls, row: RowMapping) -> "Record":
        rest = {str(name): value for name, value in row.items() if name not in ("id", "target", "machine", "versions", "point")}
        return cls(scope=Scope(row["target"], row["machine"], row["versions"]), point=json.loads(row["point"]), **rest)


def text_of(point: Point) -> str:
    return json.dumps(dict(point), sort_keys=True)


class Database:
    """The tables behind one URL. Threads may share it; processes open their own."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine  # to read with
        self.writer = engine.execution_options(writes=True)
        self.name = name  # as the user gave it, less a password

    @classmethod
    def open(cls, url: str | Path) -> "Database":
        """The database at a URL of SQLAlchemy's form, or in a file, made where there is none and brought up to date where it is older.

        StackError where it cannot be reached, is something else, or belongs to a newer Stack.
        """
        address = make_address(url)
        shown = address.database or "" if address.drivername == "sqlite" else as_given(address)
        try:
            engine = sqlalchemy.create_engine(address, **({"connect_args": {"timeout": PATIENCE}} if is_sqlite(address) else {}))
            if is_sqlite(address):
                event.listen(engine, "connect", use_write_ahead_log)
                event.listen(engine, "begin", begin)
            database = cls(engine, shown)
            with database.writer.begin() as connection:
                prepare(connection, shown)
        except ModuleNotFoundError as error:
            raise StackError(
                f"the driver '{error.name}' for this kind of database is not installed",
                at=shown,
                hint="pip install 'stack-compiler[farm]' brings the one for PostgreSQL",
            ) from None
        except SQLAlchemyError as error:
            raise StackError("the tuning database cannot be opened", at=shown, hint=reason(error)) from None
        return database

    def close(self) -> None:
        self.engine.dispose()

    # Programs

    def add_program(self, key: str, name: str, rule: str, text: str) -> None:
        """Keep a program as TVM's JSON, for cost models to learn from later; nothing where it is known."""
        self.insert(programs, [{"program": key, "name": name, "rule": rule, "text": text}])

    def program_text(self, key: str) -> str | None:
        with self.engine.connect() as connection:
            return connection.scalar(select(programs.c.text).where(programs.c.program == key))

    # Records

    def record(self, record: Record) -> None:
        """Keep one measurement; it is durable when this returns."""
        self.insert(records, [record.row()])

    def records(self, program: str | None = None, scope: Scope | None = None) -> list[Record]:
        """All measurements in the order in which they were made, of one program or one scope where that is given."""
        query = select(records).order_by(records.c.moment, records.c.id)
        if program is not None:
            query = query.where(records.c.program == program)
        if scope is not None:
            query = query.where(*same(records, scope))
        with self.engine.connect() as connection:
            return [Record.of(row) for row in connection.execute(query).mappings()]

    def best(self, program: str, scope: Scope, precision: str = "f32") -> Record | None:
        """The cheapest point for a program on a machine: by the median, where one was measured several times.

        What other versions measured counts where these versions have nothing, and another unit where there is none of a better one.
        """
        where = [records.c.program == program, records.c.target == scope.target, records.c.machine == scope.machine]
        query = select(records).where(*where, records.c.precision == precision).order_by(records.c.moment)
        with self.engine.connect() as connection:
            found = [record for row in connection.execute(query).mappings() if (record := Record.of(row)).good]
        ours = best_unit([record for record in found if record.scope == scope] or found)
        points: dict[str, list[Record]] = defaultdict(list)
        for record in ours:
            points[text_of(record.point)].append(record)
        cheapest = min(points.values(), key=lambda group: median(cost(record) for record in group), default=None)
        return min(cheapest, key=lambda record: record.moment) if cheapest else None

    def drop(self, record: Record, why: str) -> None:
        """Never again decide for this record's point on this machine."""
        where = [records.c.program == record.program, records.c.point == text_of(record.point), *same(records, record.scope)]
        with self.writer.begin() as connection:
            connection.execute(records.update().where(*where).values(dropped=why))

    # Graphs and sessions

    def save_graph(self, key: str, scope: Scope, choices: Mapping[str, str], cost: float) -> None:
        """Keep which way the passes go at each place of one model's graph, and what the model then costs."""
        row = {"graph": key, **asdict(scope), "choices": json.dumps(dict(choices), sort_keys=True), "cost": cost}
        with self.writer.begin() as connection:
            connection.execute(graphs.delete().where(graphs.c.graph == key, *same(graphs, scope)))
            connection.execute(graphs.insert(), [row])

    def graph(self, key: str, scope: Scope) -> dict[str, str] | None:
        """The choices for one model's graph, None where nothing was decided."""
        query = select(graphs.c.choices).where(graphs.c.graph == key, *same(graphs, scope))
        with self.engine.connect() as connection:
            found = connection.scalar(query)
        return None if found is None else json.loads(found)

    def save_session(self, key: str, state: Mapping[str, Any]) -> None:
        """Keep how far a run has come, JSON values only."""
        with self.writer.begin() as connection:
            connection.execute(sessions.delete().where(sessions.c.session == key))
            connection.execute(sessions.insert(), [{"session": key, "state": json.dumps(dict(state))}])

    def session(self, key: str) -> dict[str, Any] | None:
        with self.engine.connect() as connection:
            found = connection.scalar(select(sessions.c.state).where(sessions.c.session == key))
        return None if found is None else json.loads(found)

    # In and out

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Everything but sessions, table by table."""
        with self.engine.connect() as connection:
            for table in (programs, records, graphs):
                for row in connection.execute(select(table).order_by(*table.primary_key)).mappings():
                    yield table.name, dict(row)

    def insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows that are not there yet."""
        with self.writer.begin() as connection:
            insert_new(connection, table, rows)


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))


def cost(record: Record) -> float:
    assert record.cost is not None, "only what was measured is compared"
    return record.cost


def best_unit(found: Sequence[Record]) -> list[Record]:
    """Those of `found` whose costs can be compared: all in one unit, the first of UNITS that there is."""
    first = min((rank(record) for record in found), default=0)
    return [record for record in found if rank(record) == first]


def rank(record: Record) -> int:
    return UNITS.index(record.unit) if record.unit in UNITS else len(UNITS)


def same(table: Table, scope: Scope) -> list[Any]:
    return [table.c.target == scope.target, table.c.machine == scope.machine, table.c.versions == scope.versions]


def make_address(url: str | Path) -> sqlalchemy.URL:
    """A URL as it is, a path as that of SQLite; PostgreSQL with our driver where the URL names none."""
    text = str(url)
    if "://" not in text:
        return sqlalchemy.URL.create("sqlite", database=str(Path(text).expanduser()))
    try:
        address = make_url(text)
        address.get_dialect()
    except (ArgumentError, NoSuchModuleError):
        raise StackError(
            "this is not a database's URL",
            at=text.partition("@")[2] or text,
            hint="a file such as tuning.db, or postgresql://user@host/database",
        ) from None
    except ModuleNotFoundError:  # the dialect's own default driver
        pass
    if address.get_backend_name() not in ("sqlite", "postgresql"):
        raise StackError(f"databases of the kind '{address.get_backend_name()}' are not supported", hint="SQLite and PostgreSQL are")
    if address.get_backend_name() == "postgresql" and not address.username:
        raise StackError("the URL does not say as whom to log in", at=as_given(address), hint="postgresql://user@host/database")
    return address.set(drivername=DRIVER) if address.drivername == "postgresql" else address


def as_given(address: sqlalchemy.URL) -> str:
    """Without the password, and without the driver where it is the one that we chose."""
    return (address.set(drivername="postgresql") if address.drivername == DRIVER else address).render_as_string(hide_password=True)


def is_sqlite(address: sqlalchemy.URL) -> bool:
    return address.get_backend_name() == "sqlite"


def use_write_ahead_log(connection: Any, _record: Any) -> None:
    """Readers do not wait for writers. NORMAL survives the death of a process; a power cut may take the last records."""
    connection.isolation_level = None  # `begin` says when
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(PATIENCE * 1000)}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def begin(connection: Connection) -> None:
    """A writer takes its lock at once: one that has read first would be refused where another wrote since, without waiting."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")


def prepare(connection: Connection, shown: str) -> None:
    """Make the tables, or bring those of an older schema up to date."""
    if connection.dialect.name == "postgresql":
        connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({LOCK})"))
    names = set(sqlalchemy.inspect(connection).get_table_names())
    if names and about.name not in names:
        raise StackError("this database holds something else", at=shown, hint="name a new file, or one that Stack made")
    if not names:
        tables.create_all(connection)
        insert_new(connection, about, [{"name": "schema", "value": str(SCHEMA)}])
        return
    found = int(connection.scalar(select(about.c.value).where(about.c.name == "schema")) or 0)
    if found > SCHEMA:
        raise StackError(
            f"this database has schema {found}, and this Stack knows {SCHEMA} at most",
            at=shown,
            hint="update Stack, or name another database",
        )
    for step in range(found, SCHEMA):
        for statement in MIGRATIONS[step]:
            connection.execute(sqlalchemy.text(statement))
    if found < SCHEMA:
        connection.execute(about.update().where(about.c.name == "schema").values(value=str(SCHEMA)))


def reason(error: SQLAlchemyError) -> str:
    """One line: what the driver says, or the system below it, without the fields that a server's answer has besides."""
    said = getattr(error, "orig", None) or error
    if isinstance(said.__cause__, OSError):
        return f"{said.__cause__.strerror}: is a server running there?"
    if said.args and isinstance(said.args[0], dict) and "M" in said.args[0]:  # PostgreSQL's own fields
        return str(said.args[0]["M"])
    return str(said).strip().splitlines()[0]
