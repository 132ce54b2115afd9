"""A rule looks at one tensor program and a Machine. It declines (None), or returns the space of its schedules."""

from collections.abc import Callable, Sequence

from tvm import tirx

from schedules.machine import Machine
from schedules.space import Space

Rule = Callable[[tirx.PrimFunc, Machine], Space | None]


def first_space(rules: Sequence[Rule], program: tirx.PrimFunc, machine: Machine) -> Space:
    """Ask the rules in order, most specific first. The last one must take everything."""
    for rule in rules:
        space = rule(program, machine)
        if space is not None:
            return space
    raise AssertionError("the last rule declined, and it must take every program")
