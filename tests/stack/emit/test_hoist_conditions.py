"""Conditions leave the unrolled loops that do not change them, and only those."""

import pytest
import tvm
import tvm_ffi
from tvm import tirx
from tvm.script import tirx as T

from stack.emit.hoist_conditions import hoist_conditions


def rewrite(function: tirx.PrimFunc) -> tirx.PrimFunc:
    return hoist_conditions(tvm.IRModule({"main": function}))["main"]


def test_a_condition_goes_as_far_out_as_it_is_the_same():
    @T.prim_func
    def before(x: T.Buffer((10, 20), "float32"), y: T.Buffer((14,), "float32")):
        for h in T.serial(8):
            for r in T.unroll(3):
                for s in T.unroll(3):
                    for w in T.unroll(14):
                        if w + s < 15 and h + r < 9:
                            y[w] = y[w] + x[h + r, w + s]

    @T.prim_func
    def after(x: T.Buffer((10, 20), "float32"), y: T.Buffer((14,), "float32")):
        for h in T.serial(8):
            for r in T.unroll(3):
                if h + r < 9:
                    for s in T.unroll(3):
                        for w in T.unroll(14):
                            if w + s < 15:
                                y[w] = y[w] + x[h + r, w + s]

    tvm.ir.assert_structural_equal(rewrite(before).body, after.body, map_free_vars=True)


@T.prim_func
def serial(x: T.Buffer((10,), "float32"), n: T.int32):
    for i in T.serial(10):
        if n < 3:
            x[i] = T.float32(0)


@T.prim_func
def otherwise(x: T.Buffer((10,), "float32"), n: T.int32):
    for i in T.unroll(10):
        if n < 3:
            x[i] = T.float32(0)
        else:
            x[i] = T.float32(1)


@T.prim_func
def memory(x: T.Buffer((10,), "float32")):
    for i in T.unroll(10):
        if x[0] < T.float32(3):
            x[i] = T.float32(7)


@T.prim_func
def more_than_that(x: T.Buffer((10,), "float32"), n: T.int32):
    for i in T.unroll(10):
        x[i] = T.float32(1)
        if n < 3:
            x[i] = T.float32(0)


@pytest.mark.parametrize("function", [serial, otherwise, memory, more_than_that], ids=lambda function: str(function.attrs["global_symbol"]))
def test_other_loops_stay_as_they_are(function):
    assert tvm_ffi.structural_equal(rewrite(function).body, function.body)
