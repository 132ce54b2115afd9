import numpy as np
from tvm import topi
from tvm.script import tirx as T

from schedules.cpu.fallback import fallback
from tests.schedules.cpu.programs import AVX512, MACHINES, aligned, extents, floats, program, run, space


@T.prim_func(s_tir=True)
def running_sum(x: T.Buffer((100,), "float32"), y: T.Buffer((100,), "float32")) -> None:
    for i in T.serial(100):
        with T.sblock("scan"):
            T.reads(x[0:100], y[0:100])
            T.writes(y[0:100])
            y[i] = x[i] + T.if_then_else(i > 0, y[i - 1], T.float32(0))


def test_an_order_that_matters_is_kept() -> None:
    assert space(running_sum).rule == "fallback"
    x, y = floats(100), aligned((100,), "float32")
    run(space(running_sum).apply({}).mod["main"], MACHINES[-1], x, y)
    assert np.allclose(y, np.cumsum(x), rtol=1e-4, atol=1e-5)


def test_rows_of_an_argmax_are_shared_out() -> None:
    x = floats(64, 1000)
    script = fallback(program(lambda x: topi.argmax(x, 1), x), AVX512).apply({}).mod["main"].script()
    assert extents(script, "parallel") == ["for ax0 in T.parallel(T.int64(64)):"]
