import pytest

from stack import knobs


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("tuning.db", "tuning.db"),
        ("postgresql://user@host:5432/name", "postgresql://user@host:5432/name"),
        ("postgresql://user:a:b@c@host/name", "postgresql://user:***@host/name"),
    ],
)
def test_libraries_do_not_hold_the_password_of_a_database(value: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STACK_SKIP", raising=False)
    monkeypatch.setenv("STACK_DATABASE", value)
    assert knobs.database() == value
    assert knobs.deciding() == {"STACK_DATABASE": shown}


def test_a_command_that_is_shown_again_has_no_password() -> None:
    said = knobs.without_password("stackc tune m.onnx --database postgresql://user:secret@host/name --report you@there.html")
    assert said == "stackc tune m.onnx --database postgresql://user:***@host/name --report you@there.html"
