"""Candidates for microcontrollers, counted in QEMU."""

import math
from pathlib import Path

import pytest

from stack.errors import ToolMissing
from stack.measure.cortex_m import CortexMRunner
from targets.registry import find
from tests.firmware_tools import need_firmware_tools
from tests.stack.measure.test_local import JOB

RULES = "tests.stack.measure.failing_rules:FIRMWARE_RULES"


def test_a_good_point_has_its_instructions_and_every_other_its_class_of_failure() -> None:
    need_firmware_tools()
    runner = CortexMRunner(find("nucleo-f446re"), rules=RULES, answer_seconds=2)
    try:
        ways = {
            "good": None,
            "wrong": "wrong result",
            "does not compile": "does not build",
            "raises": "does not build",
            "faults": "crashed",
            "hangs": "timed out",
        }
        futures = {way: runner.submit(JOB, {"way": way}, math.inf) for way in ways}
        again = runner.submit(JOB, {"way": "good"}, math.inf)
        measured = {way: future.result(120) for way, future in futures.items()}
        assert {way: measurement.failure for way, measurement in measured.items()} == ways
        assert measured["good"] == again.result(120)
        assert 4096 < measured["good"].cost < 100_000
        assert measured["good"].device == "cortex-m4 in QEMU"
        assert measured["raises"].detail == "ValueError: is no schedule"
        assert "error" in measured["does not compile"].detail
        assert runner.counts().measures == len(ways) + 2
        folder = runner.ledger.folder
    finally:
        runner.close()
    assert not folder.exists()


def test_without_a_toolchain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing) as caught:
        CortexMRunner(find("cortex-m4"))
    assert caught.value.what == "the GNU toolchain for Arm is not installed"
