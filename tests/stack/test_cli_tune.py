"""The command line of tuning, and of compiling with what it found."""

import pytest

from stack import arguments
from tests.stack.test_cli import error


@pytest.mark.parametrize(
    ("words", "block"),
    [
        (["--trials", "0"], "error: 0 trials measure nothing\n  hint: name how many, or write a page about earlier ones with --report\n"),
        (["--trials", "-3"], "error: argument --trials: '-3' is not a whole number\n"),
        (["--seconds", "soon"], "error: argument --seconds: 'soon' is no time such as 90, 90s, 10m or 2h\n"),
        (["-t", "x68"], "error: no target is called 'x68'\n  hint: did you mean 'x86'?\n"),
        (["-t", "cuda-sm80"], "error: nothing measures kernels for 'cuda-sm80', so that it cannot be tuned\n"),
        (["--database", "mysql://host/x"], "error: databases of the kind 'mysql' are not supported\n"),
        (["--database", "missing/folder/t.db"], "error: the tuning database cannot be opened\n  at: missing/folder/t.db\n"),
        (["--precision", "int4"], "error: argument --precision: invalid choice: 'int4'"),
        (["--report", "/no/folder/page.html"], "error: there is no folder for the report\n  at: /no/folder\n"),
        (["--port", "/dev/ttyACM0"], "error: 'x86' is no microcontroller's board, and has no serial port\n"),
        (["-t", "cortex-m4", "--port", "/dev/ttyACM0"], "error: 'cortex-m4' is a core and no board\n"),
        (
            ["-t", "nucleo-f446re", "--port", "p", "--dask", "tcp://h:1"],
            "error: a board is measured where it is attached, not over a cluster\n",
        ),
    ],
)
def test_what_tuning_refuses(words, block, capsys, model_file, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert error(capsys, "tune", model_file, *words).startswith(block)


def test_tuning_a_file_that_is_not_there(capsys, tmp_path):
    assert error(capsys, "tune", tmp_path / "none.onnx").startswith(f"error: there is no such file\n  at: {tmp_path / 'none.onnx'}\n")


def test_a_database_of_a_newer_stack_is_refused(capsys, model_file, tmp_path):
    import sqlite3

    from schedules.tuning.database import Database

    Database.open(tmp_path / "t.db").close()
    with sqlite3.connect(tmp_path / "t.db") as connection:
        connection.execute("UPDATE about SET value = '99' WHERE name = 'schema'")
    connection.close()
    assert error(capsys, "tune", model_file, "--database", tmp_path / "t.db").startswith(
        "error: this database has schema 99, and this Stack"
    )


def test_tuning_for_a_microcontroller_needs_its_tools(capsys, tmp_path, monkeypatch):
    from tests.tiny_networks import residual

    (tmp_path / "net.tflite").write_bytes(residual())
    monkeypatch.setenv("PATH", str(tmp_path))
    block = error(capsys, "tune", tmp_path / "net.tflite", "-t", "cortex-m4", "--database", tmp_path / "t.db")
    assert "error: the GNU toolchain for Arm is not installed\n" in block.replace("import the model\n", "")


def test_compiling_with_a_database_that_is_not_there(capsys, model_file, tmp_path):
    assert error(capsys, "compile", model_file, "-o", tmp_path / "out", "--database", "none.db") == (
        "error: there is no such tuning database\n  at: none.db\n  hint: `stackc tune MODEL --database FILE` makes one\n"
    )


def test_compiling_untuned_takes_nothing_from_a_database(capsys, model_file, tmp_path):
    assert error(capsys, "compile", model_file, "-o", tmp_path / "out", "--database", "none.db", "--untuned") == (
        "error: --untuned takes nothing from a database\n  at: none.db\n  hint: give one of --untuned and --database\n"
    )


def test_where_tuning_leaves_its_results(monkeypatch, tmp_path):
    from stack.databases import to_write

    monkeypatch.delenv("STACK_DATABASE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert to_write(None) == str(tmp_path / "stack/tuning.db")
    assert (tmp_path / "stack").is_dir()
    monkeypatch.setenv("STACK_DATABASE", "postgresql://host/x")
    assert to_write(None) == "postgresql://host/x"
    assert to_write("mine.db") == "mine.db"


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200)])
def test_times_are_read_as_people_write_them(text, seconds):
    assert arguments.duration(text) == seconds
