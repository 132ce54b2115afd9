"""Processes that hang, crash and run out of memory end alone, and the next request finds another."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.measure.fork_server import fork_server
from stack.measure.pool import Closed, Pool, meaning
from stack.measure.serve import Answer, Limits

MODULE = "tests.stack.measure.worker_of_tests"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    made = Pool(MODULE, None, [Limits(1.0, 2 << 30)])
    yield made
    made.close()


@pytest.mark.parametrize(
    ("request_", "failure", "detail"),
    [
        ("compute for ever", "timed out", "it computed for longer than it may"),
        ("crash", "crashed", "SIGSEGV: the last words"),
        ("be killed", "out of memory", "the system killed it"),
        ("allocate", "out of memory", "Unable to allocate 32.0 TiB"),
        ("fill", "out of memory", "Unable to allocate 64.0 MiB"),
        ("refuse", "wrong result", "by 1"),
        ("else", "does not build", "ValueError: the last line"),
    ],
)
def test_a_request_that_fails_has_its_class_and_the_next_one_is_served(pool: Pool, request_: str, failure: str, detail: str) -> None:
    answer = pool.submit(request_).result(30)
    assert answer.failure == failure
    assert detail in answer.detail
    assert pool.submit("pid").result(30).value > 0


def test_one_that_crashes_among_others_does_so_alone() -> None:
    pool = Pool(MODULE, None, [Limits(1.0, 2 << 30)], together=3)
    try:
        answers = [pool.submit(request).result(30) for request in ["pid"]]
        futures = [pool.submit(request) for request in ("pid", "pid", "refuse", "crash", "pid", "else", "pid")]
        answers += [future.result(30) for future in futures]
        assert [answer.failure for answer in answers] == ["", "", "", "wrong result", "crashed", "", "does not build", ""]
        assert pool.served == 8
    finally:
        pool.close()


def test_what_neither_computes_nor_answers_is_killed() -> None:
    pool = Pool(MODULE, None, [Limits(0.1, 2 << 30)])
    try:
        first = pool.submit("pid").result(30).value
        answer = pool.submit("wait for ever").result(30)
        assert (answer.failure, answer.detail) == ("timed out", "no answer within 1.2 s")
        assert pool.submit("pid").result(30).value != first
    finally:
        pool.close()


def test_a_process_that_ended_while_idle_is_replaced(pool: Pool) -> None:
    first = pool.submit("pid").result(30).value
    os.kill(first, signal.SIGKILL)
    until(lambda: not runs(first))
    assert pool.submit("pid").result(30).value not in (None, first)


def test_requests_that_wait_when_the_pool_closes_end_with_an_exception() -> None:
    pool = Pool(MODULE, None, [Limits(10.0, 2 << 30)])
    futures = [pool.submit("wait for ever") for _ in range(3)]
    pool.close()
    for future in futures:
        with pytest.raises(Closed):
            future.result(10)


def test_a_library_that_runs_out_of_memory_says_so_before_it_aborts() -> None:
    assert meaning(-signal.SIGABRT, "terminate called after throwing an instance of 'std::bad_alloc'")[0] == "out of memory"
    assert meaning(-signal.SIGABRT, "") == ("crashed", "SIGABRT")
    assert meaning(3, "") == ("crashed", "exit 3")
    assert Answer(1).failure == ""


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_die_with_the_one_that_started_them() -> None:
    text = f"""
import time
from stack.measure.pool import Pool
from stack.measure.serve import Limits
pool = Pool("{MODULE}", None, [Limits(10.0, 2 << 30)])
print(pool.submit("pid").result(30).value, flush=True)
pool.submit("compute for ever")
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        worker = int(parent.stdout.readline())
        assert runs(worker)
        parent.kill()
    until(lambda: not runs(worker))


def test_a_server_that_was_killed_is_replaced_with_all_that_it_forked(pool: Pool) -> None:
    first = pool.submit("pid").result(30).value
    server = fork_server(MODULE)
    assert server.process
    server.process.kill()
    until(lambda: not runs(first))
    assert pool.submit("pid").result(30).value not in (None, first)


def test_a_request_that_waits_for_the_import_ends_when_the_pool_closes() -> None:
    pool = Pool("stack.measure.builder", None, [Limits(10.0, 2 << 30)])
    future = pool.submit("pid")
    pool.close()
    with pytest.raises(Closed):
        future.result(1)


def test_closing_leaves_nothing_that_it_killed_unreaped_and_the_next_pool_is_forked_by_the_same_server() -> None:
    servers = []
    for _ in range(2):
        pool = Pool(MODULE, None, [Limits(10.0, 2 << 30)])
        worker = pool.submit("pid").result(30).value
        pool.close()
        assert not Path(f"/proc/{worker}").exists()
        servers.append(fork_server(MODULE).process)
    assert servers[0] is servers[1] is not None


def test_a_module_that_cannot_be_imported_is_said_by_each_request() -> None:
    pool = Pool("tests.stack.measure.no_such_module", None, [Limits(1.0, 2 << 30)])
    try:
        for _ in range(2):
            answer = pool.submit("pid").result(30)
            assert answer.failure == "crashed"
            assert "tests.stack.measure.no_such_module does not start: ModuleNotFoundError" in answer.detail
    finally:
        pool.close()
