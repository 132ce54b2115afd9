"""Parallel loops become as many equal parts as the pool shares out."""

import itertools

import pytest
import tvm
import tvm_ffi
from tvm import tirx
from tvm.script import tirx as T

from stack.emit.parallel_units import UNITS, boundary, parallel_units


def loops(function: tirx.PrimFunc) -> list[tirx.For]:
    found: list[tirx.For] = []
    tvm_ffi.structural_walk(function.body, (tirx.For, found.append))
    return found


def rewrite(function: tirx.PrimFunc) -> tirx.PrimFunc:
    return function.with_body(parallel_units(function.body))


def value(expression: tirx.Expr) -> int:
    return int(tvm.sym.Analyzer().simplify(expression))


@pytest.mark.parametrize("extent", [1, 2, 7, 127, 128, 129, 1000, 2**31 - 1])
def test_parts_cover_the_loop_and_differ_by_one_at_most(extent):
    ends = [value(boundary(tirx.const(unit, "int32"), extent)) for unit in range(UNITS + 1)]
    sizes = {after - before for before, after in itertools.pairwise(ends)}
    assert (ends[0], ends[-1]) == (0, extent)
    assert max(sizes) - min(sizes) <= 1


def test_a_parallel_loop_becomes_parts_and_a_serial_loop_over_each():
    @T.prim_func
    def before(y: T.Buffer((7, 4), "float32")):
        for i in T.parallel(7):
            for j in T.serial(4):
                y[i, j] = T.float32(0)

    found = sorted((int(loop.kind), str(loop.loop_var.name)) for loop in loops(rewrite(before)))
    kinds = {name: kind for kind, name in found}
    assert kinds == {"unit": int(tirx.ForKind.PARALLEL), "i": int(tirx.ForKind.SERIAL), "j": int(tirx.ForKind.SERIAL)}
    (outer,) = (loop for loop in loops(rewrite(before)) if str(loop.loop_var.name) == "unit")
    assert int(outer.extent) == UNITS


def test_a_loop_of_unknown_length_stays_on_one_thread():
    @T.prim_func
    def before(y: T.Buffer((7,), "float32"), n: T.int32):
        for i in T.parallel(n):
            y[i] = T.float32(0)

    assert [int(loop.kind) for loop in loops(rewrite(before))] == [int(tirx.ForKind.SERIAL)]


def test_loops_on_one_thread_are_left_alone():
    @T.prim_func
    def before(y: T.Buffer((7,), "float32")):
        for i in T.serial(7):
            y[i] = T.float32(0)

    assert tvm_ffi.structural_equal(rewrite(before).body, before.body)
