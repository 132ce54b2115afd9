"""What tuning shows: at any width, in a terminal or not."""

import io

import pytest
from rich.console import Console

from stack.tuning import view
from stack.tuning.progress import Progress, TaskRow
from stack.tuning.view import Lines, clock, cost, failures, headline, picture, show_result

ROWS = [TaskRow(f"key{i}", f"conv2d_add_relu_{i}", "conv2d", i % 3, 120, 2e-3 / (i + 1), 1e-3 / (i + 1), 2e-3, 5e-4, i) for i in range(40)]
NOW = Progress("measure", "seconds", ROWS, 120, 500, 60.0, None, 96, 60.0, {"crashed": 2, "timed out": 5}, resumed=True)


def drawn(width: int, height: int, progress: Progress = NOW) -> list[str]:
    screen = Console(file=io.StringIO(), width=width, height=height, highlight=False, markup=False)
    screen.print(picture(progress, width, height))
    return screen.file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(160, 50), (120, 30), (80, 24), (62, 18), (40, 12)])
def test_it_fits_the_terminal(width, height):
    lines = drawn(width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    assert "best" in lines[0]
    assert "share" in lines[0]


def test_wide_terminals_show_all_columns():
    lines = drawn(140, 50)
    for title in ("program", "calls", "default", "best", "now", "roofline", "points", "trials", "share"):
        assert title in lines[0]
    assert any("other way" in line for line in lines)
    assert "and 0 more" not in "".join(lines)


def test_totals_say_speed_gain_and_what_is_left():
    assert headline(NOW) == (
        "measure: trials 120/500, 96 a minute, 4 min left at most, "
        f"sum of all programs {cost(NOW.latency, 'seconds')}, defaults {cost(NOW.start, 'seconds')} (2.00x)"
    )
    text = " ".join(" ".join(drawn(200, 60)).split())
    assert "failures: 5 timed out, 2 crashed; goes on from an earlier run; Ctrl-C stops, and what was measured stays" in text


def test_without_a_terminal_there_is_a_line_for_each_stage_and_every_few_seconds(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(view.time, "monotonic", lambda: now[0])
    lines = Lines(Console(file=io.StringIO(), width=80))
    for moment, progress in [(1, Progress("import")), (2, NOW), (3, NOW), (8, NOW), (9, Progress("check", trials=120))]:
        now[0] = float(moment)
        lines(progress)
    printed = lines.screen.file.getvalue().splitlines()
    assert [line.split(",")[0].split(":")[0] for line in printed] == ["import the model", "measure", "measure", "check the whole model"]


def test_costs_and_times_as_people_write_them():
    assert [cost(value, "seconds") for value in (None, 2.5, 0.0123, 4.56e-5)] == ["-", "2.5 s", "12.3 ms", "45.6 us"]
    assert cost(1234567.0, "instructions") == "1,234,567"
    assert [clock(seconds) for seconds in (5, 600, 7200)] == ["5 s", "10 min", "2.0 h"]
    assert failures({"a": 1, "b": 2}) == "2 b, 1 a"


def test_the_result_says_what_to_do_next(capsys):
    from stack.tuning.check import Checked
    from stack.tuning.tune import TuneResult

    checked = Checked(8.0, 4.0, 1e-6, "ONNX Runtime", ["conv2d_3"])
    result = TuneResult("m.onnx", "x86", "t.db", "seconds", ROWS, 120, 60.0, "all trials are used", 2.0, 1.0, checked=checked)
    show_result(result, "stackc tune m.onnx")
    out = capsys.readouterr().out
    assert "model      4.000 ms, untuned 8.000 ms (2.00x)\n" in out
    assert "dropped    the decision for conv2d_3, which spoils the model's outputs\n" in out
    assert "use it     stackc compile m.onnx -t x86 -o out/ --database t.db\n" in out
    stopped = TuneResult("m.onnx", "x86", "t.db", "seconds", ROWS, 120, 60.0, "interrupted", 2.0, 1.0)
    show_result(stopped, "stackc tune m.onnx")
    assert "go on      stackc tune m.onnx\n" in capsys.readouterr().out
