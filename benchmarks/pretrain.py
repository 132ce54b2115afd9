"""Makes what ships with a family of targets: the pre-trained cost model, and the decisions that were measured.

    python benchmarks/pretrain.py zoo.db [more.db ...] [--family x86] [--into targets/x86/tuned]

The model learns from all measurements of the family's targets; its page says how well one that was made in the same way ranks the programs
of models it never saw. Of each program on each kind of machine the cheapest point is kept, where it beats the default by more than noise,
and of each graph which way the passes go, where that is not the default.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cost_model import SESSION, cheapest, groups_of, space_of
from rich.console import Console

from schedules.tuning.cost_model import CostModel, validate
from schedules.tuning.database import Database, Record, text_of
from schedules.tuning.validation import Measured, mean
from stack.decide import isa, tuned_folder
from targets.registry import find

BETTER = 0.95  # of the default's cost: less of a gain may be noise, of which the least of many costs is the luckiest
MOST_KILOBYTES = 1200


def decisions(database: Database, family: str) -> list[dict[str, Any]]:
    """One line for each program and kind of machine whose best point is not the default."""
    measured: dict[tuple[str, str], list[Record]] = {}
    for record in database.records():
        if record.good and record.precision == "f32" and record.unit != "cycles" and find(record.scope.target).family == family:
            measured.setdefault((record.program, record.scope.target), []).append(record)
    found = []
    for (program, target), records in sorted(measured.items()):
        machine, space = space_of(database, program, target)
        fitting = cheapest(record for record in records if space.holds(record.point))
        default = fitting.get(text_of(space.default))
        best = min(fitting.values(), key=cost, default=None)
        if best is not None and default is not None and cost(best) < BETTER * cost(default):
            found.append({"isa": isa(machine), "program": program, "rule": space.rule, "point": dict(best.point)})
    return found


def graphs(database: Database, family: str) -> list[dict[str, Any]]:
    """One line for each graph and kind of machine where the passes go another way than by default; the cheapest way of several targets."""
    rows = [row for kind, row in database.rows() if kind == "graphs" and find(row["target"]).family == family]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: -float(row["cost"])):
        kind = isa(find(row["target"]).machine)
        found[kind, row["graph"]] = {"isa": kind, "graph": row["graph"], "choices": json.loads(row["choices"])}
    return [line for _, line in sorted(found.items()) if line["choices"]]


def cost(record: Record) -> float:
    return math.inf if record.cost is None else record.cost


def trained(groups: Sequence[Measured], models: Mapping[str, Sequence[str]]) -> CostModel:
    """The model of all groups, each program once, with what leaving out one network at a time says of it."""
    model = CostModel()
    found = validate([group for group in groups if group.whole in models])
    model.validation = {"programs": len(found), **{name: round(value, 4) for name, value in mean(found).items()}} if found else {}
    model.fit(list({group.group: group for group in groups}.values()))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("databases", nargs="+", help="what was measured: files, or URLs")
    parser.add_argument("--family", default="x86")
    parser.add_argument("--into", type=Path, metavar="DIR", help="the family's own folder by default")
    options = parser.parse_args()
    console = Console()
    groups: list[Measured] = []
    models: dict[str, Any] = {}
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for url in options.databases:
        database = Database.open(url)
        models |= database.session(SESSION) or {}
        groups += [group for group in groups_of(database, models) if find(group.group.split()[1]).family == options.family]
        lines |= {(line["isa"], line["program"]): line for line in decisions(database, options.family)}
        lines |= {(line["isa"], line["graph"]): line for line in graphs(database, options.family)}
    model = trained(groups, models)
    folder = options.into or tuned_folder(options.family)
    model.save(folder)
    (folder / "decisions.jsonl").write_text("".join(json.dumps(line, sort_keys=True) + "\n" for _, line in sorted(lines.items())))
    kilobytes = sum(file.stat().st_size for file in folder.glob("model*.json")) / 1000
    console.print(f"{len(groups)} programs, {len(lines)} decisions, a model of {kilobytes:.0f} KB: {model.validation}")
    assert kilobytes < MOST_KILOBYTES, "what ships has to stay small"


if __name__ == "__main__":
    main()
