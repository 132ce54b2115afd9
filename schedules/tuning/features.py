"""What the cost model sees of a point: numbers from the loops that its schedule will have and from the machine, no schedule applied.

in:  a Space, the Machine, points
out: Table(names, rows): one row a point, float32, wide quantities as logarithms to the base of two

Quantities are for each vector operation of the nest wherever that makes sense, so that a layer looks like another one of its kind; points
that compute in other ways are told apart by `beside.*`, what a point takes beside the space's default. What a rule says in
`LoopNest.numbers` comes as `number.<name>`, and of a space that does not describe its loops, the knobs themselves as `knob.<name>`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from schedules.loopnest import Column, LoopNest, Number
from schedules.machine import Machine
from schedules.space import Point, Space
from schedules.tuning.reuse import as_column, product
from schedules.tuning.stage import COSTS, Stage

BARRIER_CYCLES = 2500.0  # to start and end a parallel loop


@dataclass(frozen=True)
class Table:
    """`rows[i]` are the features of point i, in the order of `names`."""

    names: Sequence[str]
    rows: np.ndarray[Any, np.dtype[np.float32]]

    def take(self, names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The columns `names`, such as those that a model was trained with; what this table lacks is not a number."""
        where = {name: at for at, name in enumerate(self.names)}
        columns = [self.rows[:, where[name]] if name in where else np.full(len(self.rows), np.nan, np.float32) for name in names]
        return np.stack(columns, axis=1) if columns else np.empty((len(self.rows), 0), np.float32)


def log2(number: Number) -> Column:
    """Finite for everything that is not negative; 0 for 0 and near 0 for what is small against one."""
    return np.asarray(np.log2(1 + np.maximum(as_column(number), 0)))


def ratio(above: Number, below: Number) -> Column:
    """The logarithm of a quotient, from -20 to 20."""
    return np.asarray(np.clip(np.log2(np.maximum(as_column(above), 1e-9) / np.maximum(as_column(below), 1e-9)), -20, 20))


def featurize(space: Space, machine: Machine, points: Sequence[Point]) -> Table:
    """The features of `points`, all of which are legal ones of `space`."""
    table = absolute(space, machine, [*points, space.default])
    where = [at for at, name in enumerate(table.names) if name.startswith(("total.", "number."))]
    beside = table.rows[:, where] - table.rows[-1:, where]
    names = [f"beside.{table.names[at]}" for at in where]
    return Table([*table.names, *names], np.concatenate([table.rows, beside], axis=1)[:-1])


def absolute(space: Space, machine: Machine, points: Sequence[Point]) -> Table:
    """The same less what compares each point with the default."""
    groups: dict[tuple[tuple[str, str | bool], ...], list[int]] = {}
    for at, point in enumerate(points):
        structure = tuple((name, value) for name, value in point.items() if isinstance(value, str | bool))
        groups.setdefault(structure, []).append(at)
    parts = []
    for structure, where in groups.items():
        sizes = [name for name, value in points[where[0]].items() if not isinstance(value, str | bool)]
        columns = {name: np.array([points[at][name] for at in where], np.int64) for name in sizes}
        if space.nests is None:
            parts.append((where, from_knobs(dict(structure), columns)))
        else:
            parts.append((where, from_nests(space.nests({**dict(structure), **columns}), machine)))
    names = dict.fromkeys(name for _, part in parts for name in part)
    rows = np.full((len(points), len(names)), np.nan, np.float32)
    for where, part in parts:
        for at, name in enumerate(names):
            if name in part:
                rows[where, at] = part[name]
    return Table(list(names), rows)


def from_knobs(structure: Mapping[str, str | bool], columns: Mapping[str, Column]) -> dict[str, Column]:
    """All that there is where a rule does not describe its loops."""
    chosen = {f"knob.{name}={value}": np.ones(()) for name, value in structure.items()}
    return chosen | {f"knob.{name}": log2(column) for name, column in columns.items()}


def from_nests(nests: Sequence[LoopNest], machine: Machine) -> dict[str, Column]:
    """Features of the largest stage, of all stages together, and of the machine."""
    stages = [Stage(nest, machine) for nest in nests]
    main = stages[0]
    features = of_stage(main)
    together = {name: sum((stage.cost[name] for stage in stages), np.zeros(())) for name in COSTS}
    for name in COSTS:
        features[f"all.{name}"] = ratio(together[name], main.vectors)
    features["all.share"] = main.cost["cycles"] / np.maximum(together["cycles"], 1e-9)
    features["all.stages"] = as_column(len(stages))
    barriers = sum((stage.parallel > 1 for stage in stages), np.zeros(()))
    features["all.barriers"] = ratio(barriers * BARRIER_CYCLES, together["cycles"])
    features |= {f"total.{name}": log2(together[name]) for name in COSTS}
    for nest in nests:
        for name, number in nest.numbers.items():
            features.setdefault(f"number.{name}", np.sign(as_column(number)) * log2(np.abs(as_column(number))))
    for name, value in asdict(machine).items():
        if name not in ("ghz", "bandwidth"):
            features[f"machine.{name}"] = log2(float(value))
    return features


def of_stage(stage: Stage) -> dict[str, Column]:
    nest, machine, per = stage.nest, stage.machine, stage.vectors
    features: dict[str, Column] = {
        "accumulators": log2(stage.accumulators),
        "registers": stage.registers / machine.vector_registers,
        "spilled": log2(stage.spilled),
        "vector_loads": ratio(stage.vector_loads, stage.operations),
        "broadcasts": ratio(stage.broadcasts, stage.operations),
        "scattered": ratio(stage.scattered, stage.operations),
        "loads": ratio(stage.loads, stage.operations),
        "operations": log2(stage.operations),
        "body": log2(stage.operations + stage.loads),
        "filled": stage.filled,
        "width": log2(stage.width * stage.item / machine.vector_bytes),
        "item_bytes": as_column(stage.item),
        "depth": log2(stage.depth),
        "stores": ratio(stage.stores, stage.operations),
        "waste": ratio(product(stage.extents), nest.steps),
        "parallel": log2(stage.parallel),
        "balance": stage.balance,
        "grain": log2(per / stage.parallel),
        "size": log2(per),
        "intensity": ratio(as_column(nest.steps), sum(stage.reuse.footprints[0], np.zeros(()))),
    }
    for name in COSTS:
        features[f"est.{name}"] = ratio(stage.cost[name], per)
    for level, entering in zip(("l1", "l2", "l3"), stage.into, strict=True):
        for role in ("read0", "read1", "out"):
            features[f"{level}.{role}"] = ratio(stage.by_role(entering, role), per)
    for role in ("read0", "read1", "out"):
        features[f"bytes.{role}"] = log2(stage.by_role(stage.reuse.footprints[0], role))
    features |= of_loops(stage)
    return features


def of_loops(stage: Stage) -> dict[str, Column]:
    """Trip counts and working sets of the serial loops from the inside out, and what a core works on at a time."""
    loops = stage.nest.loops
    features: dict[str, Column] = {}
    serial = [at for at, loop in enumerate(loops) if loop.kind == "serial"]
    for number in range(5):
        at = serial[-1 - number] if number < len(serial) else None
        features[f"loop{number}.trips"] = log2(stage.extents[at]) if at is not None else np.zeros(())
        features[f"loop{number}.reduces"] = as_column(float(loops[at].reduces)) if at is not None else -np.ones(())
        bytes_ = stage.reuse.working_set(at) if at is not None else stage.reuse.working_set(0)
        features[f"loop{number}.bytes"] = log2(bytes_)
        if number in (0, 1, 2, 3):
            pages = stage.reuse.pages[at] if at is not None else stage.reuse.pages[0]
            features[f"loop{number}.pages"] = log2(pages)
    deep = max((at for at, loop in enumerate(loops) if loop.reduces and loop.kind == "serial"), default=0)
    first = min((at for at, loop in enumerate(loops) if loop.reduces and loop.kind == "serial"), default=0)
    inside = max((at + 1 for at, loop in enumerate(loops) if loop.kind == "parallel"), default=0)
    for name, level in (("inner", deep), ("reduction", first), ("task", inside)):
        bytes_ = stage.reuse.working_set(level)
        features[f"{name}.bytes"] = log2(bytes_)
        features[f"{name}.l1"] = ratio(bytes_, stage.machine.l1_bytes)
        features[f"{name}.l2"] = ratio(bytes_, stage.machine.l2_bytes)
        for role in ("read0", "read1", "out"):
            features[f"{name}.{role}"] = log2(stage.by_role(stage.reuse.footprints[level], role))
    return features
