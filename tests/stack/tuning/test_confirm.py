"""Decisions that do not pay where they are used are found."""

from collections.abc import Mapping
from typing import Any, cast

from stack.library import Library
from stack.tuning import confirm


class Fake:
    """A library whose operators take what it is told, and every seventh time ten times as long."""

    def __init__(self, **microseconds: list[float]) -> None:
        self.each = [(name, 1e-6 * cost) for name, costs in microseconds.items() for cost in costs]
        self.manifest = {"operators": [{"kernel": name} for name, _ in self.each]}
        self.runs = 0

    def profile(self, _arrays: Mapping[str, Any]) -> list[float]:
        self.runs += 1
        return [cost * (10 if self.runs % 7 == 0 else 1) for _, cost in self.each]


def slower(before: Fake, after: Fake) -> set[str]:
    return confirm.slower(cast(Library, before), cast(Library, after), {})


def test_a_kernel_that_takes_longer_in_the_model_is_named() -> None:
    before = Fake(conv=[100.0, 100.0], dense=[50.0], add=[2.0])
    after = Fake(conv=[90.0, 120.0], dense=[40.0], add=[2.5])
    assert slower(before, after) == {"conv"}  # both its calls together; half a microsecond of `add` is nobody's concern


def test_what_noise_explains_is_left_alone() -> None:
    assert slower(Fake(conv=[100.0]), Fake(conv=[103.0])) == set()
    assert slower(Fake(conv=[100.0]), Fake(conv=[105.0])) == {"conv"}
