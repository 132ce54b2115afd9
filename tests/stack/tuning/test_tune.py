"""Tuning from a model to decisions, with a runner that measures nothing; once with the real one."""

import doctest
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from onnx import helper
from tvm import relax

import stack
from schedules.tuning.database import Database
from stack import cli
from stack.decide import scope_of
from stack.errors import BadInput, StackError
from stack.roofline import Limits
from stack.tuning import progress as progresses
from stack.tuning import run as runs
from stack.tuning import tune as tunes
from stack.tuning.check import Checked
from targets.registry import family_of, find
from tests.models.build import model, tensor
from tests.stack.tuning.fake import FakeRunner, drawn_cost


def convolutions() -> onnx.ModelProto:
    """Three convolutions, two of them the same program."""
    rng = np.random.default_rng(0)
    weights = {f"w{index}": rng.standard_normal((16, 16, 3, 3)).astype("float32") / 12 for index in range(3)}
    nodes = [helper.make_node("Conv", [f"x{index}", f"w{index}"], [f"x{index + 1}"], pads=[int(index < 2)] * 4) for index in range(3)]
    return model(nodes, [tensor("x0", (1, 16, 12, 12))], ["x3"], weights)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No library is built at the end, and the machine's limits are not measured."""
    monkeypatch.setattr(tunes.Check, "run", lambda self: Checked(2.0, 1.0, 0.0, "nothing"))
    monkeypatch.setattr(runs, "measure", lambda threads: Limits(1e11, [(1 << 40, 1e10)]))


def use(monkeypatch: pytest.MonkeyPatch, runner: FakeRunner) -> FakeRunner:
    monkeypatch.setattr(stack.measure, "open_runner", lambda target, **_: runner, raising=False)
    return runner


@pytest.mark.usefixtures("unchecked")
def test_every_measurement_is_kept_and_no_point_measured_twice(monkeypatch, tmp_path):
    runner = use(monkeypatch, FakeRunner())
    seen = []
    result = stack.tune(convolutions(), trials=40, database=tmp_path / "t.db", on_progress=seen.append)
    assert result.trials == 40
    assert result.stopped == "all trials are used"
    assert len(set(runner.seen)) == len(runner.seen) == 40
    assert runner.closed
    database = Database.open(tmp_path / "t.db")
    records = database.records()
    assert len(records) == 40
    assert all(record.cost == drawn_cost(record.program, record.point) for record in records)
    for row in result.rows:
        mine = [record.cost for record in records if record.program == row.key]
        assert row.best == min(mine)
        assert database.program_text(row.key)
    assert result.latency == pytest.approx(sum(row.calls * row.best for row in result.rows))
    assert result.latency < result.start
    assert sorted(row.calls for row in result.rows if row.rule == "conv2d") in ([1, 2], [3])
    stages = list(dict.fromkeys(progress.stage for progress in seen))
    assert stages == ["import", "measure", "check"]
    assert [progress.trials for progress in seen] == sorted(progress.trials for progress in seen)


@pytest.mark.usefixtures("unchecked")
def test_compiling_takes_what_was_found_and_says_so(monkeypatch, tmp_path):
    use(monkeypatch, FakeRunner())
    result = stack.tune(convolutions(), trials=40, database=tmp_path / "t.db")
    database = Database.open(tmp_path / "t.db")
    best = {row.name: database.best(row.key, scope_of(find("x86"))) for row in result.rows}
    tuned = stack.compile(convolutions(), database=tmp_path / "t.db")
    again = stack.compile(convolutions(), database=tmp_path / "t.db")
    plain = stack.compile(convolutions(), untuned=True)
    assert tuned.manifest == again.manifest
    for entry in tuned.manifest["operators"]:
        if entry["rule"] == "conv2d":
            assert (entry["source"], entry["decision"]) == ("tuned", best[entry["kernel"]].point)
    assert {entry["source"] for entry in plain.manifest["operators"]} == {"default"}
    x = np.random.default_rng(1).standard_normal((1, 16, 12, 12)).astype("float32")
    np.testing.assert_allclose(tuned.run({"x0": x})["x3"], plain.run({"x0": x})["x3"], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("unchecked")
def test_a_second_run_begins_where_the_first_ended(monkeypatch, tmp_path):
    first = use(monkeypatch, FakeRunner())
    before = stack.tune(convolutions(), trials=20, database=tmp_path / "t.db")
    second = use(monkeypatch, FakeRunner())
    after = stack.tune(convolutions(), trials=20, database=tmp_path / "t.db")
    assert after.trials == 20
    assert not set(first.seen) & set(second.seen)
    assert after.latency <= before.latency


KILLED = """
import os, signal, sys
import stack
from stack.roofline import Limits
from stack.tuning import run as runs
from tests.stack.tuning.fake import FakeRunner
from tests.stack.tuning.test_tune import convolutions
import stack.measure
runs.measure = lambda threads: Limits(1e11, [(1 << 40, 1e10)])
def before(count):
    if count == 17:
        os.kill(os.getpid(), signal.SIGKILL)
stack.measure.open_runner = lambda target, **_: FakeRunner(before=before)
stack.tune(convolutions(), trials=40, database=sys.argv[1])
"""


@pytest.mark.usefixtures("unchecked")
def test_a_killed_run_goes_on_with_what_is_left_of_its_budget(monkeypatch, tmp_path):
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "t.db"], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert done.returncode == -signal.SIGKILL
    kept = Database.open(tmp_path / "t.db").records()
    assert 0 < len(kept) <= 17
    runner = use(monkeypatch, FakeRunner())
    result = stack.tune(convolutions(), trials=40, database=tmp_path / "t.db")
    assert len(runner.seen) == 40 - len(kept)
    assert result.trials == 40
    everything = [(record.program, json.dumps(dict(record.point), sort_keys=True)) for record in Database.open(tmp_path / "t.db").records()]
    assert len(everything) == len(set(everything)) == 40


@pytest.mark.usefixtures("unchecked")
def test_an_interrupt_keeps_what_was_measured_and_the_same_call_goes_on(monkeypatch, tmp_path):
    def before(count: int) -> None:
        if count == 12:
            raise KeyboardInterrupt

    runner = use(monkeypatch, FakeRunner(before=before))
    result = stack.tune(convolutions(), trials=30, database=tmp_path / "t.db")
    assert result.interrupted
    assert runner.closed
    assert result.checked is None
    rest = use(monkeypatch, FakeRunner())
    assert stack.tune(convolutions(), trials=30, database=tmp_path / "t.db").trials == 30
    assert len(rest.seen) == 30 - result.trials


@pytest.mark.usefixtures("unchecked")
def test_an_interrupt_of_the_check_leaves_only_the_check_to_do(monkeypatch, tmp_path):
    def interrupted(self):
        raise KeyboardInterrupt

    use(monkeypatch, FakeRunner())
    with monkeypatch.context() as during:
        during.setattr(tunes.Check, "run", interrupted)
        assert stack.tune(convolutions(), trials=20, database=tmp_path / "t.db").interrupted
    rest = use(monkeypatch, FakeRunner())
    result = stack.tune(convolutions(), trials=20, database=tmp_path / "t.db")
    assert (rest.seen, result.trials, result.checked) == ([], 20, Checked(2.0, 1.0, 0.0, "nothing"))


@pytest.mark.usefixtures("unchecked")
def test_failures_are_counted_and_never_become_decisions(monkeypatch, tmp_path):
    use(monkeypatch, FakeRunner(fails="crashed"))
    result = stack.tune(convolutions(), trials=40, database=tmp_path / "t.db")
    assert result.failures == {"crashed": 8}
    failed = [record for record in Database.open(tmp_path / "t.db").records() if record.failure]
    assert len(failed) == 8
    assert not any(record.good for record in failed)


@pytest.mark.usefixtures("unchecked")
def test_it_ends_when_nothing_is_left_to_gain(monkeypatch, tmp_path):
    runner = use(monkeypatch, FakeRunner(cost=lambda job, point: 1e-3))
    result = stack.tune(convolutions(), trials=100000, database=tmp_path / "t.db")
    assert result.stopped == "nothing more is to be gained"
    assert len(set(runner.seen)) == len(runner.seen) < 100000


@pytest.mark.usefixtures("unchecked")
def test_time_is_a_budget_too(monkeypatch, tmp_path):
    clock = iter(range(0, 100000, 1))
    monkeypatch.setattr("schedules.tuning.rounds.time.monotonic", lambda: float(next(clock)))
    use(monkeypatch, FakeRunner())
    assert stack.tune(convolutions(), seconds=30, database=tmp_path / "t.db").stopped == "the time is used"


@pytest.mark.usefixtures("unchecked")
def test_the_way_through_the_graph_that_costs_least_is_taken(monkeypatch, tmp_path):
    """A toy pass that may compute another function: it leads to another program, which the fake runner finds cheaper."""
    host = family_of(find("x86"))

    def passes(machine, choices):
        def toy(module, _context):
            option = choices.choose("toy", ("exp", "relu"))
            builder = relax.BlockBuilder()
            x = relax.Var("x", module["main"].params[0].ty)
            with builder.function("main", [x]):
                with builder.dataflow():
                    out = builder.emit_output(relax.op.exp(x) if option == "exp" else relax.op.nn.relu(x))
                builder.emit_func_output(out)
            return builder.finalize()

        return [tvm.transform.module_pass(toy, opt_level=0, name="toy"), *host.graph_passes(machine, choices)]

    family = replace(host, graph_passes=passes)
    monkeypatch.setattr(tunes, "family_of", lambda target: family)
    monkeypatch.setattr("stack.compiler.family_of", lambda target: family)
    graph = model([helper.make_node("Neg", ["x"], ["y"])], [tensor("x", (1, 4096))], ["y"])
    use(monkeypatch, FakeRunner(cost=lambda job, point: 1e-3 if "relu" in job.name else 2e-3))
    result = stack.tune(graph, trials=12, database=tmp_path / "t.db")
    assert result.choices == {"toy/0": "relu"}
    assert result.latency < result.start
    x = np.linspace(-1, 1, 4096, dtype="float32")[None]
    tuned = stack.compile(graph, database=tmp_path / "t.db").run({"x": x})["y"]
    np.testing.assert_array_equal(tuned, np.maximum(x, 0))
    np.testing.assert_allclose(stack.compile(graph, untuned=True).run({"x": x})["y"], np.exp(x), rtol=1e-5)


def test_a_real_run_measures_checks_and_reports(model_file, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "measure", lambda threads: Limits(1e11, [(1 << 40, 1e10)]))
    monkeypatch.setattr("stack.bench.SECONDS", 0.01)
    result = stack.tune(model_file, trials=6, database=tmp_path / "t.db", report=tmp_path / "page.html")
    assert result.trials == 6
    assert result.failures == {}
    assert result.checked is not None
    assert result.checked.difference < 1e-4
    assert result.checked.dropped == []
    assert result.checked.before > 0 < result.checked.after
    page = (tmp_path / "page.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace("http://creativecommons.org", "")
    assert page.count("<svg") >= 2
    for row in result.rows:
        if row.points > 1 and row.calls:
            assert row.name in page


# what users can get wrong


@pytest.mark.parametrize(("trials", "seconds"), [(-1, None), (1.5, None), (True, None), (None, 0), (None, -2.0)])
def test_a_budget_must_be_one(trials, seconds, tmp_path):
    with pytest.raises(BadInput, match=r"trials must be a whole number, not|seconds must be more than 0, not"):
        stack.tune("none.onnx", trials=trials, seconds=seconds, database=tmp_path / "t.db")


def test_cuda_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(StackError, match="nothing measures kernels for 'cuda-sm80', so that it cannot be tuned"):
        stack.tune("none.onnx", "cuda-sm80", database=tmp_path / "t.db")


def test_an_unknown_precision(tmp_path):
    with pytest.raises(StackError, match="no precision is called 'fp4'"):
        stack.tune("none.onnx", precision="fp4", database=tmp_path / "t.db")


def test_a_run_says_how_far_it_is():
    row = progresses.TaskRow("k", "n", "conv2d", 2, 10, 4e-3, 2e-3, 3e-3, 1e-3, 5)
    now = progresses.Progress("measure", rows=[row], trials=50, most_trials=100, made=20, lasted=60.0, seconds=100, most_seconds=130)
    assert (row.cost, row.roofline) == (4e-3, 0.5)
    assert (now.latency, now.start, now.per_minute) == (4e-3, 8e-3, 20)
    assert now.left == 30
    assert replace(now, most_seconds=None).left == 150


@pytest.mark.usefixtures("unchecked")
def test_the_examples_in_the_docstring_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    use(monkeypatch, FakeRunner())
    onnx.save(model([helper.make_node("Exp", ["x"], ["y"])], [tensor("x", (1, 4))], ["y"]), "add.onnx")
    found = doctest.DocTestFinder().find(tunes.tune, "tune", module=tunes, globs={"stack": stack})
    assert sum(len(test.examples) for test in found) == 2
    assert [doctest.DocTestRunner().run(test).failed for test in found] == [0]


@pytest.mark.usefixtures("unchecked")
def test_the_command_says_how_it_goes_and_what_is_next(monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    use(monkeypatch, FakeRunner())
    onnx.save(convolutions(), "net.onnx")
    assert cli.main(["tune", "net.onnx", "--trials", "12", "--database", "t.db", "--report"]) == 0
    out, err = capfd.readouterr()
    assert err.startswith("import the model\nmeasure: trials ")
    assert "stopped    all trials are used, after 12 trials in " in out
    assert "use it     stackc compile net.onnx -t x86 -o out/ --database t.db\n" in out
    assert out.endswith("report     net-tuning.html\n")
    assert Path("net-tuning.html").is_file()
    assert cli.main(["tune", "net.onnx", "--trials", "0", "--database", "t.db", "--report", "again.html"]) == 0
    assert Path("again.html").is_file()


@pytest.mark.usefixtures("unchecked")
def test_an_interrupted_command_says_how_to_go_on(monkeypatch, tmp_path, capfd):
    def before(count: int) -> None:
        if count == 5:
            raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    use(monkeypatch, FakeRunner(before=before))
    onnx.save(convolutions(), "net.onnx")
    words = ["tune", "net.onnx", "--trials", "12", "--database", "t.db"]
    monkeypatch.setattr(sys, "argv", ["stackc", *words])
    assert cli.main(words) == 130
    out, err = capfd.readouterr()
    assert "stopped    interrupted, after " in out
    assert "go on      stackc tune net.onnx --trials 12 --database t.db\n" in out
    assert err.endswith("error: interrupted\n")
