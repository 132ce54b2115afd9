"""Features of a small nest, computed by hand."""

import numpy as np
import pytest

from schedules.loopnest import Loop, LoopNest, Operand, dim
from schedules.machine import Machine
from schedules.space import Space
from schedules.tuning.features import featurize
from schedules.tuning.reuse import reuse
from schedules.tuning.stage import Stage

MACHINE = Machine(cores=2, vector_bytes=64, vector_registers=32, fma_ports=2, l1_bytes=4096, l2_bytes=1 << 16, l3_bytes=1 << 20)


def product(tile=4, rows=8, columns=32, depth=64):
    """y[m, n] += x[m, k] * w[k, n], a tile of rows in registers."""
    loops = (
        Loop("mo", rows // tile, "parallel"), Loop("no", columns // 16), Loop("k", depth, reduces=True),
        Loop("mi", tile, "unrolled"), Loop("lane", 16, "vector"),
    )  # fmt: skip
    row, column = dim(mo=tile, mi=1), dim(no=16, lane=1)
    operands = (
        Operand("x", 4, "read", (row, dim(k=1))),
        Operand("w", 4, "read", (dim(k=1), column)),
        Operand("y", 4, "accumulate", (row, column)),
    )
    return LoopNest(loops, operands, rows * columns * depth)


def space_of(tiles=(1, 2, 4, 8), nests=lambda point: [product(point["tile"])]):
    return Space("product", {"tile": 4, "order": "plain"}, lambda point: None, {"tile": tiles, "order": ("plain", "odd")}, nests=nests)


def row_of(table, index):
    return dict(zip(table.names, table.rows[index].tolist(), strict=True))


def test_working_sets_are_those_of_the_loops_inside():
    found = reuse(product())
    assert [int(level[0]) for level in found.footprints] == [8 * 64 * 4, 4 * 64 * 4, 4 * 64 * 4, 4 * 64, 64, 64]
    assert [int(level[1]) for level in found.footprints] == [64 * 32 * 4, 64 * 32 * 4, 64 * 64, 64, 64, 64]
    assert int(found.working_set(2)) == 4 * 64 * 4 + 64 * 16 * 4 + 4 * 64
    assert [int(times) for times in found.entered] == [1, 2, 4, 256, 1024, 16384]


def test_a_cache_that_holds_everything_is_filled_once():
    assert [int(bytes_) for bytes_ in reuse(product()).traffic(1 << 20)] == [2048, 8192, 1024]


def test_what_does_not_fit_is_read_once_for_each_turn_that_moves_it():
    x, w, y = reuse(product()).traffic(6000)  # one panel of w with its rows of x: 5.4 KB
    assert (int(x), int(w), int(y)) == (2048, 2 * 8192, 1024)


def test_part_of_a_cache_line_counts_as_a_whole_one():
    strided = LoopNest((Loop("i", 10),), (Operand("x", 4, "read", (dim(i=1), dim())),), 10)
    whole = LoopNest((Loop("i", 10),), (Operand("x", 4, "read", (dim(i=1),)),), 10)
    assert [int(of.traffic(1e6)[0]) for of in (reuse(strided), reuse(whole))] == [64, 64]
    rows = LoopNest((Loop("j", 32), Loop("i", 10)), (Operand("x", 4, "read", (dim(i=1), dim(j=1))),), 10)
    assert int(reuse(rows).footprints[1][0]) == 10 * 64


def test_a_tile_needs_its_sums_and_operands_in_registers():
    stage = Stage(product(), MACHINE)
    assert (int(stage.accumulators), int(stage.vector_loads), int(stage.broadcasts)) == (4, 1, 4)
    assert int(stage.operations) == 4
    assert int(stage.depth) == 64
    assert int(stage.vectors) == 8 * 32 * 64 // 16
    assert int(stage.registers) == 6


def test_sums_that_wait_for_each_other_and_idle_cores_cost_cycles():
    cycles = {tile: Stage(product(tile), MACHINE).cost for tile in (1, 2, 4, 8)}
    assert cycles[1]["compute"] == 8 * cycles[8]["compute"] / 2  # one sum of eight, and both cores; one core alone has eight
    assert float(Stage(product(8), MACHINE).balance) == 2
    assert float(Stage(product(2), MACHINE).balance) == 1


def test_columns_give_what_single_points_give_and_all_of_it_is_finite():
    space = space_of()
    points = [{"tile": tile, "order": order} for tile in (1, 2, 4, 8) for order in ("plain", "odd")]
    together = featurize(space, MACHINE, points)
    for index, point in enumerate(points):
        alone = featurize(space, MACHINE, [point])
        assert alone.names == together.names
        np.testing.assert_array_equal(alone.rows[0], together.rows[index])
    assert np.isfinite(together.rows).all()


def test_other_points_are_compared_with_the_default():
    table = featurize(space_of(), MACHINE, [{"tile": 4, "order": "odd"}, {"tile": 1, "order": "plain"}])
    assert row_of(table, 0)["beside.total.cycles"] == 0
    assert row_of(table, 1)["beside.total.compute"] == pytest.approx(2, abs=0.01)  # one sum instead of four: each waits as long


def test_a_rule_can_add_numbers_and_stages():
    def nests(point):
        main, pack = product(point["tile"]), product(1, rows=2)
        return [LoopNest(main.loops, main.operands, main.steps, {"copied": 3}), pack]

    row = row_of(featurize(space_of(nests=nests), MACHINE, [{"tile": 4, "order": "plain"}]), 0)
    assert row["number.copied"] == 2  # the logarithm of 1 + 3
    assert row["beside.number.copied"] == 0
    assert row["all.stages"] == 2
    assert 0 < row["all.share"] < 1


def test_a_space_without_loops_offers_its_knobs():
    table = featurize(space_of(nests=None), MACHINE, [{"tile": 4, "order": "plain"}, {"tile": 8, "order": "odd"}])
    assert row_of(table, 0)["knob.tile"] == pytest.approx(np.log2(5))
    assert row_of(table, 0)["knob.order=plain"] == 1
    assert np.isnan(row_of(table, 1)["knob.order=plain"])


def test_columns_that_a_model_knows_are_taken_in_its_order():
    table = featurize(space_of(), MACHINE, [{"tile": 4, "order": "plain"}])
    taken = table.take(["unknown", "accumulators"])
    assert np.isnan(taken[0, 0])
    assert taken[0, 1] == pytest.approx(np.log2(5))
