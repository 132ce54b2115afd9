"""The tuning database: what is recorded stays, whoever else writes and whatever happens to the writer."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schedules.machine import Machine
from schedules.tuning import database as module
from schedules.tuning.database import SCHEMA, Database, Record, Scope
from stack.errors import StackError

SCOPE = Scope("x86", "0123456789ab", "stack 1, tvm 2")
PROGRAM = "e21b5350000f0378"


def record(cost: float | None = 1.0, tile: int = 4, **changes: object) -> Record:
    return replace(Record(PROGRAM, "conv2d", SCOPE, {"tile": tile, "order": "rows"}, cost, "seconds"), **changes)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "tuning.db")
    yield opened
    opened.close()


def test_records_come_back_as_they_were(database: Database) -> None:
    good, failed = record(moment=1.0), record(None, tile=8, failure="timed out", detail="10 s", moment=2.0)
    database.record(good)
    database.record(failed)
    assert database.records() == [good, failed]
    assert database.records(PROGRAM, SCOPE) == [good, failed]
    assert database.records("0" * 16) == []
    assert database.records(scope=replace(SCOPE, machine="b" * 12)) == []


def test_the_cheapest_good_point_is_best(database: Database) -> None:
    assert database.best(PROGRAM, SCOPE) is None
    for entry in (
        record(3.0, tile=1),
        record(2.0, tile=2),
        record(1.0, tile=4, settled=False),
        record(None, tile=8, failure="wrong result"),
        record(0.5, tile=16, precision="bf16"),
        record(0.1, tile=32, scope=replace(SCOPE, machine="b" * 12)),
    ):
        database.record(entry)
    best = database.best(PROGRAM, SCOPE)
    assert best is not None
    assert best.point == {"tile": 2, "order": "rows"}
    bf16 = database.best(PROGRAM, SCOPE, "bf16")
    assert bf16 is not None
    assert bf16.point["tile"] == 16


def test_one_lucky_run_does_not_decide(database: Database) -> None:
    for cost in (0.5, 2.0, 2.0):
        database.record(record(cost, tile=1))
    database.record(record(1.0, tile=2))
    best = database.best(PROGRAM, SCOPE)
    assert best is not None
    assert best.point["tile"] == 2


def test_a_dropped_point_never_decides_again(database: Database) -> None:
    database.record(record(1.0, tile=1))
    database.record(record(2.0, tile=2))
    database.drop(record(1.0, tile=1), "differs in the whole model")
    database.record(record(2.5, tile=2))
    best = database.best(PROGRAM, SCOPE)
    assert best is not None
    assert best.point["tile"] == 2
    assert database.records(PROGRAM)[0].dropped == "differs in the whole model"


def test_other_versions_count_where_these_have_nothing(database: Database) -> None:
    newer = replace(SCOPE, versions="stack 2, tvm 2")
    database.record(record(1.0, tile=1))
    best = database.best(PROGRAM, newer)
    assert best is not None
    database.record(record(5.0, tile=2, scope=newer))
    best = database.best(PROGRAM, newer)
    assert best is not None
    assert best.point["tile"] == 2


def test_programs_graphs_and_sessions(database: Database) -> None:
    database.add_program(PROGRAM, "conv", "conv2d", "{}")
    database.add_program(PROGRAM, "conv", "conv2d", "{other}")
    assert database.program_text(PROGRAM) == "{}"
    assert database.program_text("0" * 16) is None
    assert database.graph("g", SCOPE) is None
    database.save_graph("g", SCOPE, {"attention/0": "separate"}, 2.0)
    database.save_graph("g", SCOPE, {"attention/0": "fused"}, 1.0)
    assert database.graph("g", SCOPE) == {"attention/0": "fused"}
    assert database.graph("g", replace(SCOPE, target="x86-avx2")) is None
    assert database.session("s") is None
    database.save_session("s", {"trials": 1})
    database.save_session("s", {"trials": 2, "random": [1, 2]})
    assert database.session("s") == {"trials": 2, "random": [1, 2]}


def test_a_scope_is_of_the_machine_and_these_versions() -> None:
    scope = Scope.of("x86", Machine())
    assert scope == Scope.of("x86", Machine(ghz=9.0))  # which no schedule depends on
    assert scope != Scope.of("x86", Machine(l2_bytes=1))
    assert "tvm 0.27" in scope.versions


WRITER = """
import sys
from schedules.tuning.database import Database, Record, Scope
database = Database.open(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
for n in range(int(sys.argv[3])):
    database.record(Record(sys.argv[2], "conv2d", Scope("x86", "m", "v"), {"n": n}, 1.0, "seconds"))
    print(n, flush=True)
"""


def writer(url: str, program: str, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, url, program, str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])


def start(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "open\n"
    process.stdin.write("go\n")
    process.stdin.flush()


def check_two_writers(url: str) -> None:
    writers = [writer(url, program, 60) for program in ("a" * 16, "b" * 16)]  # both make the tables
    for process in writers:
        start(process)
    for process in writers:
        assert len((process.communicate()[0]).splitlines()) == 60
        assert process.returncode == 0
    database = Database.open(url)
    assert len(database.records("a" * 16)) == len(database.records("b" * 16)) == 60
    database.close()


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    check_two_writers(str(tmp_path / "tuning.db"))


def test_a_killed_writer_loses_nothing_that_it_recorded(tmp_path: Path) -> None:
    file = str(tmp_path / "tuning.db")
    process = writer(file, PROGRAM, 100_000)
    start(process)
    assert process.stdout
    for _ in range(20):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    said = 20 + len(process.stdout.readlines())
    process.wait()
    process.stdout.close()
    assert process.stdin
    process.stdin.close()
    database = Database.open(file)
    assert len(database.records()) in (said, said + 1)
    database.record(record())
    database.close()


def test_an_older_database_is_brought_up_to_date(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    database = Database.open(file)
    database.record(record(1.0))
    database.close()
    with sqlite3.connect(file) as raw:
        raw.execute("ALTER TABLE records DROP COLUMN dropped")
        raw.execute("UPDATE about SET value = '1' WHERE name = 'schema'")
    raw.close()
    database = Database.open(file)
    database.drop(record(1.0), "wrong")
    assert [entry.dropped for entry in database.records()] == ["wrong"]
    database.close()
    database = Database.open(file)  # once is enough
    database.close()
    assert set(range(1, SCHEMA)) == module.MIGRATIONS.keys()


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    Database.open(file).close()
    with sqlite3.connect(file) as raw:
        raw.execute("UPDATE about SET value = '99'")
    raw.close()
    with pytest.raises(StackError, match=r"has schema 99, and this Stack knows 2 at most(.|\n)*new.db(.|\n)*update Stack"):
        Database.open(file)


def test_what_is_no_database_of_ours_is_refused(tmp_path: Path) -> None:
    text, other = tmp_path / "notes.txt", tmp_path / "other.db"
    text.write_text("these are notes, and no database at all " * 50)
    with pytest.raises(StackError, match=r"cannot be opened(.|\n)*notes.txt(.|\n)*not a database"):
        Database.open(text)
    with sqlite3.connect(other) as raw:
        raw.execute("CREATE TABLE birds (name TEXT)")
    raw.close()
    with pytest.raises(StackError, match="holds something else"):
        Database.open(other)
    with pytest.raises(StackError, match=r"cannot be opened(.|\n)*unable to open"):
        Database.open(tmp_path / "absent" / "tuning.db")


def test_what_a_board_took_goes_before_what_qemu_counted(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "t.db")
    database.record(replace(record(10.0, tile=2), unit="instructions"))
    best = database.best(PROGRAM, SCOPE)
    assert best is not None
    assert best.unit == "instructions"
    for cost, tile in ((300.0, 2), (200.0, 4)):
        database.record(replace(record(cost, tile=tile), unit="cycles"))
    best = database.best(PROGRAM, SCOPE)
    assert best is not None
    assert (best.cost, best.unit, best.point["tile"]) == (200.0, "cycles", 4)


def test_urls_that_lead_nowhere() -> None:
    with pytest.raises(StackError, match="not a database's URL"):
        Database.open("nonsense://there/it")
    with pytest.raises(StackError, match="kind 'mysql' are not supported"):
        Database.open("mysql://user@127.0.0.1/tuning")
    with pytest.raises(StackError, match=r"cannot be opened") as caught:
        Database.open("postgresql://user:secret@127.0.0.1:1/tuning")
    assert caught.value.at == "postgresql://user:***@127.0.0.1:1/tuning"
    assert caught.value.hint == "Connection refused: is a server running there?"
    with pytest.raises(StackError, match="does not say as whom to log in") as caught:
        Database.open("postgresql://127.0.0.1/tuning")
    assert caught.value.hint == "postgresql://user@host/database"


@pytest.fixture
def postgres() -> Iterator[str]:
    """The URL of a new PostgreSQL server on this machine."""
    tools = next((Path(found).parent for found in map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")))), None)
    tools = tools or (Path(found).parent if (found := shutil.which("initdb")) else None)
    if tools is None:
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="stack-pg-", ignore_cleanup_errors=True) as folder:
        run = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []
        if run:
            shutil.chown(folder, "nobody")
        data = f"{folder}/data"
        made = subprocess.run([*run, tools / "initdb", "-D", data, "-A", "trust", "-U", "stack", "-N"], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        options = f"-c listen_addresses=127.0.0.1 -c port={PORT} -c unix_socket_directories={folder} -c fsync=off"
        command = [*run, tools / "pg_ctl", "-D", data, "-w", "-l", f"{folder}/log", "-o", options]
        started = subprocess.run([*command, "start"], capture_output=True, text=True)
        assert started.returncode == 0, started.stdout + started.stderr
        try:
            yield f"postgresql://stack@127.0.0.1:{PORT}/postgres"
        finally:
            subprocess.run([*command, "-m", "immediate", "stop"], capture_output=True)


PORT = 54329


def test_postgresql_keeps_the_same(postgres: str) -> None:
    with pytest.raises(StackError) as caught:
        Database.open(f"{postgres}-of-others")
    assert caught.value.at == f"{postgres}-of-others"
    assert caught.value.hint == 'database "postgres-of-others" does not exist'
    check_two_writers(postgres)
    database = Database.open(postgres)
    assert database.name == postgres
    database.record(record(2.0, tile=2))
    database.record(record(None, tile=3, failure="crashed"))
    best = database.best(PROGRAM, SCOPE)
    assert best is not None
    assert best.point == {"tile": 2, "order": "rows"}
    database.save_graph("g", SCOPE, {"a/0": "b"}, 1.0)
    database.save_session("s", {"trials": 1})
    assert database.graph("g", SCOPE) == {"a/0": "b"}
    assert database.session("s") == {"trials": 1}
    database.close()
