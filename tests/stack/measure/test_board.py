"""Candidates on a board that is attached, which here is QEMU behind a serial port."""

import math

import pytest
import tvm

from schedules.tuning.measurement import Job
from stack.errors import StackError
from stack.measure import board
from stack.measure.board import BoardRunner
from stack.measure.pool import Closed
from targets.cortex_m import attached
from targets.registry import find
from tests.firmware_tools import need_firmware_tools
from tests.stack.measure.failing_rules import add_one_to_few
from tests.targets.cortex_m.fake_openocd import BOARD, attached_board

pytest.importorskip("serial", reason="pyserial is not installed: pip install pyserial")
RULES = "tests.stack.measure.failing_rules:FIRMWARE_RULES"
JOB = Job("few", "add_one", tvm.ir.save_json(tvm.IRModule({"main": add_one_to_few})), BOARD, [False, False], [])


def test_points_share_a_firmware_until_the_board_is_gone(monkeypatch, tmp_path):
    need_firmware_tools()
    monkeypatch.setattr(attached, "BOOT_SECONDS", 20.0)
    with attached_board(tmp_path / "bench", monkeypatch) as bench:
        runner = BoardRunner(find(BOARD), bench.port, RULES)
        try:
            assert (runner.unit, runner.device) == ("cycles", f"{BOARD} at {bench.port}")
            ways = {"good": None, "good too": None, "wrong on the board": "wrong result", "wrong": "wrong result"}
            futures = {way: runner.submit(JOB, {"way": way}, math.inf) for way in ways}
            measured = {way: future.result(120) for way, future in futures.items()}
            assert {way: measurement.failure for way, measurement in measured.items()} == ways
            assert 0 < measured["good"].cost == pytest.approx(measured["good too"].cost, abs=25)  # two instructions take 21 ticks
            assert measured["good"].device == runner.device
            assert measured["wrong"].device == "cortex-m4 in QEMU"
            assert measured["wrong on the board"].detail.startswith("on the board: off by 1 ")
            assert bench.flashed == 1

            ways = {"good": None, "faults on the board": "crashed"}  # neither spoils the other
            futures = {way: runner.submit(JOB, {"way": way}, math.inf) for way in ways}
            assert {way: future.result(120).failure for way, future in futures.items()} == ways
            assert bench.flashed == 4

            runner.attached.answer_seconds = 1.5
            hangs = runner.submit(JOB, {"way": "hangs on the board"}, math.inf).result(120)
            assert (hangs.failure, hangs.detail) == ("timed out", "the board gave no answer within 1.51 s")
            assert bench.flashed == 6  # the second time to see that it is still there

            bench.dies_after(7)  # while it runs
            lost = runner.submit(JOB, {"way": "hangs on the board"}, math.inf).result(120)
            assert lost.failure == "device lost"
            assert lost.detail == "the board is lost: openocd did not flash the board: Error: open failed"
            with pytest.raises(StackError, match="the board is lost: openocd did not flash the board: Error: open failed"):
                runner.submit(JOB, {"way": "good too"}, math.inf)
            assert runner.counts().failures == {"wrong result": 2, "crashed": 1, "timed out": 1, "device lost": 1}
            folder = runner.ledger.folder
        finally:
            runner.close()
        runner.close()
    assert not folder.exists()


def test_what_is_under_way_when_it_is_closed_ends(monkeypatch, tmp_path):
    need_firmware_tools()
    with attached_board(tmp_path / "bench", monkeypatch) as bench:
        runner = BoardRunner(find(BOARD), bench.port, RULES)
        future = runner.submit(JOB, {"way": "good"}, math.inf)
        runner.close()
        with pytest.raises(Closed):
            future.result(10)
        assert bench.flashed == 0


def test_a_clock_that_stands_still(monkeypatch):
    firmware = board.Firmware(None, None, {}, [], None, "f32", False)
    with pytest.raises(attached.Lost, match="the board's clock counter stands still"):
        board.judged(firmware, [board.Said(b"", 0, 0, [0, 0])])
