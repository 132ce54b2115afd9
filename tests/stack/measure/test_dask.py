"""A cluster of processes on this machine: a worker that dies takes no candidate with it, and what is missing is said in one sentence."""

import math
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import wait
from typing import Any

import pytest

from stack.errors import StackError, ToolMissing
from stack.measure import open_runner
from stack.measure.dask import DaskRunner
from tests.stack.measure.test_local import JOB, RULES

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore::Warning")  # of Dask about its own sockets and loops, when a worker is killed


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": "CRITICAL"}
    with distributed.LocalCluster(processes=True, resources={"x86": 1}, **options) as made:
        yield made


def test_a_worker_that_dies_takes_no_candidate_with_it(cluster: Any) -> None:
    runner = DaskRunner("x86", 1, cluster.scheduler_address, RULES)
    try:
        ways = ["good", "wrong", "good", "raises", "good", "good", "good", "good"]
        futures = [runner.submit(JOB, {"way": way}, math.inf) for way in ways]
        futures[0].result(120)
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        _, waiting = wait(futures, timeout=120)
        assert not waiting
        expected = {"good": None, "wrong": "wrong result", "raises": "does not build"}
        assert [future.result().failure for future in futures] == [expected[way] for way in ways]
        assert all(future.result().cost < 1e-3 for future, way in zip(futures, ways, strict=True) if way == "good")
        assert runner.counts().failures == {"wrong result": 1, "does not build": 1}
    finally:
        runner.close()
        runner.close()


def test_a_cluster_without_the_device_says_which_worker_to_start(cluster: Any) -> None:
    with pytest.raises(StackError) as caught:
        open_runner("x86-avx2", dask=cluster.scheduler_address)
    assert caught.value.what == "no worker of the cluster is a device for 'x86-avx2'"
    assert caught.value.hint == f'start one there: dask worker {cluster.scheduler_address} --resources "x86-avx2=1"'


def test_an_address_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.measure.dask.CONNECT_SECONDS", 0.2)
    with pytest.raises(StackError) as caught:
        open_runner("x86", dask="tcp://127.0.0.1:9")
    assert caught.value.what.startswith("no Dask scheduler answers: ")
    assert caught.value.at == "tcp://127.0.0.1:9"
    assert caught.value.hint == '`dask scheduler` starts one; then `dask worker ADDRESS --resources "x86=1"` on each device'


def test_an_address_that_is_none() -> None:
    with pytest.raises(StackError, match="no Dask scheduler answers: missing port number in address 'nonsense'") as caught:
        open_runner("x86", dask="nonsense")
    assert caught.value.at == "nonsense"


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ToolMissing) as caught:
        open_runner("x86", dask="tcp://127.0.0.1:9")
    assert str(caught.value) == "error: Dask is not installed\n  at: the Python package 'distributed'\n  hint: pip install distributed"
