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
