"""Which point each program gets when a model is compiled, and where that decision comes from.

    decisions = Decisions(target, database="tuning.db")
    scheduled = decisions.label(module, schedule(module, rules, machine, decide=decisions))
    scheduled["fused_conv2d_relu"].attrs["stack.source"]  ->  "tuned"

In this order, the first that has a point of the program's space: what was measured on such a machine (`tuned`), the decisions that ship
with the target's family (`shipped`), the shipped cost model's first choice where it is clearly ahead of the default (`predicted`), and the
rule's own analytic point (`default`). Nothing is written, so that equal inputs, database and versions give equal libraries.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tvm
from tvm import tirx

import targets
from schedules.machine import Machine
from schedules.space import Point, Space, Value
from schedules.tuning.cost_model import CostModel
from schedules.tuning.database import Database, Record, Scope, best_unit
from schedules.tuning.jobs import FULL, adapted, allowed
from schedules.tuning.task import program_key
from stack import knobs
from stack.errors import StackError
from targets.registry import family_of
from targets.target import Target

Source = Literal["tuned", "shipped", "predicted", "default"]
PRECISIONS = ("f32", "bf16")
MOST_RANKED = 400  # points of one space: all of ResNet-50 are then ranked within about a second
STEPS = 3  # rankings of a space that is larger
SURE, MARGIN = 1.0, 0.5  # how far ahead of the default a prediction must be: in standard deviations of both, and of a space's scores


class Decisions:
    """A `schedules.apply.Decide` that remembers where each decision came from."""

    def __init__(self, target: Target, database: Database | None = None, untuned: bool = False, precision: str = "f32") -> None:
        self.machine, self.family, self.precision, self.untuned = target.machine, target.family, precision, untuned
        self.scope = scope_of(target)
        self.database = None if untuned else database
        self.taken: dict[tirx.PrimFunc, tuple[Point, Source]] = {}
        self.withdrawn: set[tirx.PrimFunc] = set()  # programs that get their default after all

    def choices(self, graph: str) -> Mapping[str, str]:
        """Which way the passes go in the graph with that key: what tuning found on such a machine, else what ships, else their defaults."""
        if self.untuned:
            return {}
        decided = self.database.graph(graph, self.scope) if self.database else None
        return shipped_choices(tuned_folder(self.family)).get(isa(self.machine), {}).get(graph, {}) if decided is None else decided

    def __call__(self, program: tirx.PrimFunc, space: Space) -> Point:
        self.taken[program] = (space.default, "default") if program in self.withdrawn else self.decide(program, space)
        return self.taken[program][0]

    def decide(self, program: tirx.PrimFunc, space: Space) -> tuple[Point, Source]:
        if self.untuned or space.size == 1:
            return space.default, "default"
        key = program_key(program)
        if (record := self.measured(key, space)) is not None:
            return adapted(record.point, space), "tuned"
        if (point := shipped(tuned_folder(self.family)).get(isa(self.machine), {}).get(key)) and self.fits(narrowed(point, space), space):
            return adapted(narrowed(point, space), space), "shipped"
        if (point := predicted(self.family, space, self.machine)) is not None and self.fits(point, space):
            return point, "predicted"
        return space.default, "default"

    def measured(self, key: str, space: Space) -> Record | None:
        """The cheapest record that is still a point of the space."""
        if self.database is None:
            return None
        wanted = dict.fromkeys(("f32", self.precision))
        found = [self.database.best(key, self.scope, precision) for precision in wanted]
        fitting = [record for record in found if record is not None and self.fits(record.point, space)]
        return min(best_unit(fitting), key=lambda record: record.cost or 0.0, default=None)

    def fits(self, point: Point, space: Space) -> bool:
        return space.holds(adapted(point, space)) and allowed(point, self.precision)

    def label(self, before: tvm.IRModule, scheduled: tvm.IRModule) -> tvm.IRModule:
        """`scheduled` with the attribute `stack.source` on each program of `before`. What constants did not allow was no decision."""
        labelled = tvm.IRModule(dict(scheduled.functions), attrs=scheduled.attrs)
        for variable, program in before.functions.items():
            if isinstance(program, tirx.PrimFunc):
                point, source = self.taken[program]
                function = scheduled[variable.name_hint]
                kept = json.loads(str(function.attrs["stack.decision"])) == dict(point)
                labelled[variable] = function.with_attr("stack.source", source if kept else "default")
        return labelled

    def said(self) -> dict[str, object]:
        """What the manifest says: how many programs were decided by what, and the environment variables that can change a result."""
        return {
            "decided": summary([source for _, source in self.taken.values()]),
            "precision": self.precision,
            "environment": knobs.deciding(),
        }


def permitting(target: Target, precision: str) -> Target:
    """`target` for a user who allows that precision; StackError where nothing for it computes in that."""
    if checked_precision(precision) not in family_of(target).precisions:
        raise StackError(f"nothing computes in {precision} for '{target.name}'", hint="leave --precision out: floats stay float32 there")
    return replace(target, machine=replace(target.machine, reduced_precision=precision != FULL))


def scope_of(target: Target) -> Scope:
    """Under which measurements for `target` are kept, whatever precision its user allows."""
    return Scope.of(target.name, replace(target.machine, reduced_precision=False))


def checked_precision(precision: str) -> str:
    """`precision`; StackError where it is none."""
    if precision not in PRECISIONS:
        raise StackError(f"no precision is called '{precision}'", hint=f"there are {' and '.join(PRECISIONS)}")
    return precision


def narrowed(point: Point, space: Space) -> Point:
    """A point that ships, in the precision of the default: what ships was measured in float32, where no other was to choose from."""
    return {**point, "precision": space.default["precision"]} if "precision" in space.default and "precision" not in point else point


def tuned_folder(family: str) -> Path:
    return Path(targets.__file__).parent / family / "tuned"


def isa(machine: Machine) -> str:
    """What two machines must share for the decisions of one to serve the other: their instructions and the caches of one core."""
    names = ("vector_bytes", "vector_registers", "fma_ports", "int8_dot", "l1_bytes", "l2_bytes", "dsp", "helium", "thumb2", "fpu")
    return "/".join(str(int(getattr(machine, name))) for name in names)


@cache
def shipped(folder: Path) -> Mapping[str, Mapping[str, Point]]:
    """The decisions that ship with a family, in its folder: instruction set -> program -> point."""
    return shipped_lines(folder, "program", "point")


@cache
def shipped_choices(folder: Path) -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """Which way the passes go in graphs that ship with a family: instruction set -> graph -> choices."""
    return shipped_lines(folder, "graph", "choices")


def shipped_lines(folder: Path, kind: str, decided: str) -> dict[str, dict[str, Any]]:
    """The lines about programs, or about graphs."""
    file = folder / "decisions.jsonl"
    found: dict[str, dict[str, Any]] = {}
    for line in file.read_text().splitlines() if file.is_file() else ():
        entry: dict[str, Any] = json.loads(line)
        if kind in entry:
            found.setdefault(entry["isa"], {})[entry[kind]] = entry[decided]
    return found


@cache
def model_of(folder: Path) -> CostModel:
    return CostModel.load(folder)


def predicted(family: str, space: Space, machine: Machine) -> Point | None:
    """The shipped cost model's first choice; None where it knows nothing, or is not sure that this is better than the default.

    All are of the default's precision: the model has learnt from float32 alone, and what a CPU's own dot products in bfloat16 cost differs
    by a factor of four."""
    model = model_of(tuned_folder(family))
    if not model.trained or space.nests is None:
        return None
    space = of_default_precision(space)
    points, best = [space.default, *candidates(space)], 0
    for _ in range(STEPS):
        ranking = model.rank(space, machine, points)
        best = int(np.argmax(ranking.scores - ranking.uncertainty))
        if best == 0 or space.size <= MOST_RANKED:
            break
        points = [space.default, points[best], *neighbours(space, points[best])]  # a step on from the best of those that are spread out
    ahead = ranking.scores[best] - ranking.scores[0]
    return points[best] if best and ahead > SURE * (ranking.uncertainty[best] + ranking.uncertainty[0]) + MARGIN else None


def of_default_precision(space: Space) -> Space:
    """The points to rank; the one for any constants may be of another precision."""
    if "precision" not in space.knobs:
        return space
    return replace(space, knobs={**space.knobs, "precision": (space.default["precision"],)}, otherwise=None)


def neighbours(space: Space, point: Point) -> list[Point]:
    """The points that differ in one knob."""
    changed = [{**point, name: value} for name, values in space.knobs.items() for value in values if value != point[name]]
    return [other for other in changed if space.legal(other)]


def candidates(space: Space) -> list[Point]:
    """All legal points, or of a large space some that are spread evenly over it, the same each time."""
    step = max(1, space.size // MOST_RANKED) | 1
    values = [list(each) for each in space.knobs.values()]
    points: list[Point] = []
    for number in range(0, space.size, step):
        point: dict[str, Value] = {}
        for name, choices in zip(space.knobs, values, strict=True):
            number, at = divmod(number, len(choices))
            point[name] = choices[at]
        if space.legal(point):
            points.append(point)
    return points


def summary(sources: Sequence[Source]) -> str:
    """12 tuned, 3 default"""
    order: tuple[Source, ...] = ("tuned", "shipped", "predicted", "default")
    return ", ".join(f"{sources.count(source)} {source}" for source in order if source in sources)
