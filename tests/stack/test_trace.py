"""STACK_DEBUG, STACK_DUMP and STACK_SKIP, on the passes as `stack.compile` runs them."""

from pathlib import Path

import pytest
import tvm
from tvm import relax

from relay_passes import pipeline
from relay_passes.choices import Choices
from schedules.apply import schedule
from schedules.cpu import RULES
from schedules.machine import Machine
from stack.trace import instruments, show_programs
from tests.relay_passes.network import const, network, operators

op = relax.op


@pytest.fixture(autouse=True)
def no_knobs(monkeypatch: pytest.MonkeyPatch) -> None:
    for knob in ("STACK_DEBUG", "STACK_DUMP", "STACK_SKIP"):
        monkeypatch.delenv(knob, raising=False)


def model() -> tvm.IRModule:
    return network(lambda x: op.subtract(op.squeeze(x, [0]), const(4)), (1, 2, 4))


def run_passes(module: tvm.IRModule) -> tvm.IRModule:
    with tvm.transform.PassContext(instruments=instruments()):
        for graph_pass in pipeline.simplify():
            module = graph_pass(module)
    return module


def test_nothing_watches_unless_asked() -> None:
    assert instruments() == []


def test_debug_prints_a_line_for_each_pass(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STACK_DEBUG", "1")
    run_passes(model())
    lines = {line.split()[1]: line for line in capsys.readouterr().err.splitlines()}
    assert {graph_pass.info.name for graph_pass in pipeline.simplify()} <= lines.keys()
    assert not lines["canonicalize_ops"].endswith("unchanged")
    assert lines["fold_pad"].endswith("unchanged")


def test_dump_writes_the_module_after_each_pass_that_changed_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STACK_DUMP", str(tmp_path / "ir"))
    run_passes(model())
    files = {file.stem.split("_", 1)[1]: file.read_text() for file in (tmp_path / "ir").iterdir()}
    assert "R.reshape" in files["canonicalize_ops"]
    assert "fold_pad" not in files


def test_skip_leaves_a_pass_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert operators(run_passes(model())) == ["add", "reshape"]
    monkeypatch.setenv("STACK_SKIP", "canonicalize_ops, fold_pad")
    assert operators(run_passes(model())) == ["squeeze", "subtract"]


def test_every_pass_of_ours_can_be_skipped_by_the_name_of_its_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {graph_pass.info.name for graph_pass in pipeline.cpu_passes(Machine(), Choices())}
    ours = {name for name in names if name.islower() and name != "sequential"}  # TVM's are in CamelCase, its lists "sequential"
    assert ours <= {file.stem for file in Path(pipeline.__file__).parent.rglob("*.py")}
    monkeypatch.setenv("STACK_SKIP", ",".join(ours))
    monkeypatch.setenv("STACK_DEBUG", "1")
    with tvm.transform.PassContext(instruments=instruments()):
        module = model()
        for graph_pass in pipeline.cpu_passes(Machine(), Choices()):
            module = graph_pass(module)
    ran = {line.split()[1] for line in capsys.readouterr().err.splitlines()}
    assert not ran & ours
    assert "FuseOps" in ran


@pytest.mark.parametrize(("level", "rules", "loops"), [("1", 0, False), ("2", 1, False), ("3", 1, True)])
def test_debug_shows_how_programs_are_scheduled(
    level: str, rules: int, loops: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = network(lambda x: op.nn.relu(x), (1, 64))
    for graph_pass in pipeline.cpu_passes(Machine(), Choices()):
        module = graph_pass(module)
    monkeypatch.setenv("STACK_DEBUG", level)
    show_programs(schedule(module, RULES, Machine()))
    text = capsys.readouterr().err
    assert sum(line.split()[:2] == ["relu", "elementwise"] for line in text.splitlines()) == rules
    assert ("T.max(" in text) is loops
