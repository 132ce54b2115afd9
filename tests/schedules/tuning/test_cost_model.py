"""The model learns to rank programs it never saw, grows, and is the same after it was saved."""

import json

import numpy as np
import pytest

from schedules.loopnest import Loop, LoopNest, Operand, dim
from schedules.machine import Machine
from schedules.space import Space
from schedules.tuning import cost_model
from schedules.tuning.cost_model import CostModel, validate
from schedules.tuning.features import featurize
from schedules.tuning.validation import Measured, leave_one_out, mean, quality

MACHINE = Machine(cores=1, vector_bytes=64, vector_registers=32)
TILES = (1, 2, 3, 4, 6, 8, 12, 24)


def space_of(rows, columns, depth):
    """A product whose tile is `m` rows and `n` vectors."""

    def nests(point):
        m, n = point["m"], point["n"]
        loops = (
            Loop("mo", rows // m), Loop("no", columns // (16 * n)), Loop("k", depth, reduces=True),
            Loop("mi", m, "unrolled"), Loop("ni", n, "unrolled"), Loop("lane", 16, "vector"),
        )  # fmt: skip
        row, column = dim(mo=m, mi=1), dim(no=16 * n, ni=16, lane=1)
        read = (Operand("x", 4, "read", (row, dim(k=1))), Operand("w", 4, "read", (dim(k=1), column)))
        return [LoopNest(loops, (*read, Operand("y", 4, "accumulate", (row, column))), rows * columns * depth)]

    knobs = {"m": TILES, "n": (1, 2, 4)}
    return Space("product", {"m": 1, "n": 1}, lambda point: None, knobs, nests=nests)


def points_of(space):
    return [{"m": m, "n": n} for m in space.knobs["m"] for n in space.knobs["n"]]


def true_cost(point, work):
    """Loads, spills and sums that wait for each other."""
    sums = point["m"] * point["n"]
    return work * 1e-12 * (1 + 1 / point["m"] + 1 / point["n"] + max(0, 8 / sums - 1) + 3 * max(0, sums + point["n"] - 30) / 30)


def measured(rows, columns, depth, whole="", failing=()):
    space = space_of(rows, columns, depth)
    points = points_of(space)
    costs = np.array([np.inf if point in failing else true_cost(point, rows * columns * depth) for point in points])
    return Measured(f"{rows}x{columns}x{depth}", featurize(space, MACHINE, points), costs, whole)


@pytest.fixture(scope="module")
def groups():
    sizes = [(24, 64), (48, 128), (96, 256), (192, 64), (48, 512), (24, 256)]
    return [measured(rows, columns, depth, f"model {rows}") for rows, columns in sizes for depth in (32, 256)]


def test_it_ranks_programs_of_models_it_never_saw(groups):
    found = validate(groups)
    assert {one.whole for one in found} == {"model 24", "model 48", "model 96", "model 192"}
    assert mean(found)["pairwise"] > 0.9
    assert mean(found)["of_eight"] > 0.97


def test_it_foretells_costs_of_other_sizes(groups):
    model = CostModel()
    model.fit(groups)
    space = space_of(96, 128, 128)
    foretold = model.predict(space, MACHINE, points_of(space))
    truth = np.array([true_cost(point, 96 * 128 * 128) for point in points_of(space)])
    assert np.median(np.abs(np.log2(foretold / truth))) < 0.3


def test_before_it_learnt_it_goes_by_the_estimate_and_admits_to_know_nothing():
    space = space_of(96, 128, 128)
    ranking = CostModel().rank(space, MACHINE, [{"m": 1, "n": 1}, {"m": 6, "n": 4}])
    assert ranking.scores[1] > ranking.scores[0]
    assert (ranking.uncertainty > 0).all()
    assert np.isnan(CostModel().predict(space, MACHINE, [{"m": 1, "n": 1}])).all()


def test_what_failed_ranks_below_what_worked():
    failing = [{"m": m, "n": 4} for m in TILES]
    model = CostModel()
    model.fit([measured(rows, 128, depth, failing=failing) for rows in (24, 48, 96) for depth in (32, 128)])
    space = space_of(192, 128, 64)
    scores = dict(zip(((p["m"], p["n"]) for p in points_of(space)), model.rank(space, MACHINE, points_of(space)).scores, strict=True))
    assert max(scores[m, 4] for m in TILES) < np.median([scores[m, n] for m in TILES for n in (1, 2)])


def test_a_group_without_a_success_teaches_nothing(groups):
    nothing = measured(24, 64, 64, failing=points_of(space_of(24, 64, 64)))
    model = CostModel()
    model.update([nothing])
    assert not model.trained
    model.fit([*groups, nothing])
    assert model.trained


def test_saved_as_json_it_ranks_the_same(groups, tmp_path):
    model = CostModel()
    model.fit(groups)
    model.validation = {"pairwise": 0.95}
    model.save(tmp_path)
    loaded = CostModel.load(tmp_path)
    table = groups[0].table
    np.testing.assert_allclose(model.rank_table(table).scores, loaded.rank_table(table).scores, atol=1e-3)
    np.testing.assert_allclose(model.rank_table(table).uncertainty, loaded.rank_table(table).uncertainty, atol=1e-3)
    assert loaded.validation == {"pairwise": 0.95}
    for file in tmp_path.iterdir():
        json.loads(file.read_text())
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 500_000


def test_where_nothing_was_saved_a_model_knows_nothing(tmp_path):
    assert not CostModel.load(tmp_path).trained


def test_what_is_measured_later_adds_to_what_was_learnt(groups, tmp_path):
    CostModel().load(tmp_path)
    base = CostModel()
    base.fit(groups[:4])
    base.save(tmp_path)
    model = CostModel.load(tmp_path)
    table = groups[-1].table
    turned = Measured("odd machine", table, groups[-1].costs.max() + groups[-1].costs.min() - groups[-1].costs)
    before = quality(model.rank_table(table).scores, turned.costs).pairwise
    model.update([turned])
    after = quality(model.rank_table(table).scores, turned.costs).pairwise
    assert after > before + 0.3
    trees = [member.booster.num_boosted_rounds() for member in model.members]
    model.update([turned])
    assert [member.booster.num_boosted_rounds() for member in model.members] == trees == [cost_model.ROUNDS + cost_model.MORE_ROUNDS] * 4


def test_quality_by_hand():
    found = quality(np.array([3.0, 2.0, 1.0, 0.0]), np.array([1.0, 1.01, 2.0, np.inf]))
    assert (found.pairwise, found.first, found.of_eight, found.pairs) == (1.0, 1.0, 1.0, 5)
    turned = quality(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 4.0]))
    assert (turned.pairwise, turned.first) == (0.0, 0.25)


def test_a_program_that_two_models_share_is_not_learnt_from_the_other(groups):
    seen = []

    def train(others):
        seen.append({group.group for group in others})
        return lambda table: np.zeros(len(table.rows))

    twice = [*groups[:4], Measured(groups[0].group, groups[0].table, groups[0].costs, "another")]
    found = leave_one_out(twice, train)
    assert len(found) == 5
    assert all(groups[0].group not in names for names in [seen[0], seen[-1]])
