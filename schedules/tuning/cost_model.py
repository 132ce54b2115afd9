"""XGBoost, which ranks the points of a space that nobody has measured.

    model = CostModel.load(folder)                     or CostModel(), which knows nothing yet and goes by simple estimates
    ranking = model.rank(space, machine, points)       scores, higher is better, and how much the members of the ensemble differ
    model.predict(space, machine, points)              costs, in the unit of the measurements
    model.update(groups)                               learns what was measured since, on top of what it was loaded with

Three members learn to rank, each from other samples of rows and features; groups are the points of one program on one target and device,
so that costs of different programs are never compared. A fourth learns how many times the simple estimate a point takes: it makes costs of
scores, and is a member as well. Whatever failed ranks below all else of its group.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schedules.machine import Machine
from schedules.space import Point, Space
from schedules.tuning.features import Table, featurize
from schedules.tuning.validation import Floats, Measured, Quality, leave_one_out

if TYPE_CHECKING:
    import xgboost  # imported where it is used: it takes a second, which compiling without a model need not wait for

ESTIMATE = "total.cycles"  # the feature that is the logarithm of the estimated cycles
MEMBERS = 3
ROUNDS, MORE_ROUNDS = 80, 30  # trees of each member, at first and on top
FEW = 0.01  # evidence that a leaf needs, on top: pairs of one small group weigh next to nothing
BEST = 31.0  # the grade of the best point of a group; one that takes twice as long has half of it
TREES: Mapping[str, Any] = {
    "max_depth": 6,
    "learning_rate": 0.2,
    "subsample": 0.8,
    "colsample_bytree": 0.6,
    "min_child_weight": 4,
    "max_bin": 128,
    "tree_method": "hist",
    "nthread": 1,
}


@dataclass(frozen=True)
class Ranking:
    """Scores of points, higher is better, in units of their usual spread; `uncertainty` is in the same unit."""

    scores: Floats
    uncertainty: Floats

    @classmethod
    def of(cls, each: Floats) -> "Ranking":
        """From what each member says, a row for each."""
        centred = each - each.mean(axis=1, keepdims=True)
        return cls(centred.mean(axis=0), centred.std(axis=0) if len(each) > 1 else np.ones(each.shape[1]))


@dataclass
class Member:
    """One booster. `scale` is the usual spread of its scores in a group; `absolute` is whether it foretells costs."""

    booster: "xgboost.Booster"
    scale: float
    absolute: bool

    def scores(self, rows: Any, estimate: Floats) -> Floats:
        import xgboost

        foretold = np.asarray(self.booster.predict(xgboost.DMatrix(rows, nthread=1)), np.float64)
        return (-(foretold + estimate) if self.absolute else foretold) / self.scale


class CostModel:
    """Holds what it was trained with last, and the boosters that it began with."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.members: list[Member] = []
        self.base: list[Member] = []
        self.validation: dict[str, Any] = {}

    @property
    def trained(self) -> bool:
        return bool(self.members)

    def rank(self, space: Space, machine: Machine, points: Sequence[Point]) -> Ranking:
        """Score `points` of `space`, at about ten thousand a second."""
        return Ranking.of(self.scores(space, machine, points))

    def rank_table(self, table: Table) -> Ranking:
        return Ranking.of(self.score_table(table))

    def scores(self, space: Space, machine: Machine, points: Sequence[Point]) -> Floats:
        """What each member says of `points`, a row for each member, from a zero of its own."""
        return self.score_table(featurize(space, machine, points))

    def score_table(self, table: Table) -> Floats:
        estimate = estimates(table)
        if not self.members:
            return -estimate[None]
        rows = table.take(self.names)
        return np.stack([member.scores(rows, estimate) for member in self.members])

    def predict(self, space: Space, machine: Machine, points: Sequence[Point]) -> Floats:
        """Costs of `points`, which may be compared with those of other programs; not a number where the model knows nothing yet."""
        return self.costs(self.scores(space, machine, points))

    def costs(self, scores: Floats) -> Floats:
        """The costs that `scores` of the members stand for."""
        for said, member in zip(scores, self.members, strict=False):
            if member.absolute:
                return np.asarray(np.exp2(-said * member.scale))
        return np.full(scores.shape[1], np.nan)

    def fit(self, groups: Sequence[Measured]) -> None:
        """Learn from `groups` alone, and forget the rest."""
        useful = with_successes(groups)
        self.names = sorted({name for group in useful for name in group.table.names})
        self.base = []
        self.members = train(self.names, useful, None) if useful else []

    def update(self, groups: Sequence[Measured]) -> None:
        """Learn all that was measured in this session, on top of what the model was loaded with. Cheap: a second for a thousand points."""
        useful = with_successes(groups)
        if not useful:
            return
        if self.base:
            self.members = train(self.names, useful, self.base)
        else:
            self.fit(useful)

    def save(self, folder: Path) -> None:
        """XGBoost's JSON of each member, and one page that says what its features are."""
        folder.mkdir(parents=True, exist_ok=True)
        page = {
            "features": self.names,
            "members": [{"scale": member.scale, "absolute": member.absolute} for member in self.members],
            "validation": self.validation,
        }
        (folder / "model.json").write_text(json.dumps(page, indent=1) + "\n")
        for number, member in enumerate(self.members):
            (folder / f"model-{number}.json").write_text(compact(member.booster))

    @classmethod
    def load(cls, folder: Path) -> "CostModel":
        """What `save` wrote; a model that knows nothing where there is nothing."""
        model = cls()
        if not (folder / "model.json").exists():
            return model
        import xgboost

        page = json.loads((folder / "model.json").read_text())
        model.names = page["features"]
        model.validation = page["validation"]
        for number, entry in enumerate(page["members"]):
            booster = xgboost.Booster({"nthread": 1})
            booster.load_model(folder / f"model-{number}.json")
            model.members.append(Member(booster, entry["scale"], entry["absolute"]))
        model.base = list(model.members)
        return model


def estimates(table: Table) -> Floats:
    """The logarithm of the estimated cycles; 0 for spaces that do not describe their loops."""
    return np.nan_to_num(table.take([ESTIMATE])[:, 0].astype(np.float64), nan=0.0)


def with_successes(groups: Sequence[Measured]) -> list[Measured]:
    return [group for group in groups if len(group.costs) > 1 and np.isfinite(group.costs).any()]


def train(names: Sequence[str], groups: Sequence[Measured], base: Sequence[Member] | None) -> list[Member]:
    import xgboost

    rounds = MORE_ROUNDS if base else ROUNDS
    rows = np.concatenate([group.table.take(names) for group in groups])
    costs = np.concatenate([group.costs for group in groups])
    sizes = [len(group.costs) for group in groups]
    grades = np.concatenate([BEST * group.costs.min() / group.costs for group in groups])
    estimate = np.concatenate([estimates(group.table) for group in groups])
    ranked = xgboost.DMatrix(rows, grades, nthread=1)
    ranked.set_group(sizes)
    worked = np.isfinite(costs)
    weights = np.maximum(0.15, grades[worked] / BEST)
    absolute = xgboost.DMatrix(rows[worked], np.log2(costs[worked]) - estimate[worked], weight=weights, nthread=1)
    members = []
    for number in range(MEMBERS + 1):
        is_absolute = number == MEMBERS
        options = dict(TREES, seed=number, objective="reg:squarederror" if is_absolute else "rank:pairwise")
        if base:
            options["min_child_weight"] = FEW
        before = base[number].booster if base else None
        booster = xgboost.train(options, absolute if is_absolute else ranked, rounds, xgb_model=before)
        member = Member(booster, 1.0, is_absolute)
        member.scale = spread(member.scores(rows, estimate), sizes)
        members.append(member)
    return members


def spread(scores: Floats, sizes: Sequence[int]) -> float:
    """The usual standard deviation within a group."""
    ends = np.cumsum(sizes)
    return float(np.median([scores[end - size : end].std() for end, size in zip(ends, sizes, strict=True)])) or 1.0


def compact(booster: "xgboost.Booster") -> str:
    """XGBoost's JSON less what only describes how it was trained: a third of the size."""
    page = json.loads(booster.save_raw("json").decode())
    for tree in page["learner"]["gradient_booster"]["model"]["trees"]:
        for name in ("base_weights", "loss_changes", "sum_hessian"):
            tree[name] = [0.0] * len(tree[name])
        leaf = [left == -1 for left in tree["left_children"]]
        numbers = zip(tree["split_conditions"], leaf, strict=True)  # where a node splits must stay exact: features are often at the edge
        tree["split_conditions"] = [float(f"{value:.4g}" if ends else str(np.float32(value))) for value, ends in numbers]
    return json.dumps(page, separators=(",", ":"))


def validate(groups: Sequence[Measured]) -> list[Quality]:
    """Each model's programs, ranked by what was learnt from those of all other models."""

    def fitted(others: Sequence[Measured]) -> Any:
        model = CostModel()
        model.fit(others)
        return lambda table: model.rank_table(table).scores

    return leave_one_out(groups, fitted)
