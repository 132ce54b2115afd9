"""A target is data: what the code generator, the passes and the rules may assume. A family is the code that serves many targets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schedules.machine import Machine

if TYPE_CHECKING:  # running a library reads targets, and must not load TVM
    from tvm.ir.transform import Pass

    from relay_passes.choices import Choices
    from schedules.rule import Rule


@dataclass(frozen=True)
class Memory:
    """One memory of a board. `kind` is flash or ram; a lower `speed` is slower (1.0: no wait states)."""

    name: str
    kind: str
    base: int
    bytes: int
    speed: float = 1.0


@dataclass(frozen=True)
class Target:
    """One machine, or one kind of machines. Families differ in code; targets of a family only in these fields."""

    name: str
    family: str  # the folder under targets/
    summary: str
    codegen: Mapping[str, object]  # handed to tvm.target.Target as it is
    machine: Machine
    features: Sequence[str] = field(default=())  # what a CPU must have to run the result, in the operating system's words
    memory: Sequence[Memory] = field(default=())  # of a board; empty where only the core is known
    board: Mapping[str, object] = field(default_factory=dict)  # how to flash it or emulate it; its family's runner reads it


@dataclass(frozen=True)
class Family:
    """How a group of machines is compiled for.

    `graph_passes` gives the passes in order, which ask the Choices where they could go two ways; `rules` the schedule rules, most specific
    first; `container` names the form of library that `stack.emit` makes: "native" (CPU code) or "cuda" (GPU code), both with a C entry
    point and no TVM at run time, or "c" (sources for a microcontroller). `precisions` are those that float32 may be computed in.
    """

    name: str
    graph_passes: "Callable[[Machine, Choices], Sequence[Pass]]"
    rules: "Sequence[Rule]"
    container: str
    precisions: "Sequence[str]" = ("f32",)
