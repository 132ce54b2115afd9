import numpy as np
import tvm
from tvm import te, tirx

from stack.emit.shield_division import shield_division, unshield_division
from tests.schedules.cpu.programs import AVX2, aligned, run


def program() -> tirx.PrimFunc:
    """What a concatenation between two reshapes leaves behind: a remainder, less an offset, divided."""
    a = te.placeholder((8, 3, 8), "float32", name="a")

    def value(i: tirx.Var, k: tirx.Var, j: tirx.Var) -> tirx.Expr:
        c = te.floormod(i * 8 + j, 80)
        return te.if_then_else(c >= 20, a[te.floordiv(c - 20, 8), k, te.floormod(c - 20, 8)], te.const(0.0))

    return te.create_prim_func([a, te.compute((10, 3, 16), value, name="y")])


def test_a_remainder_less_an_offset_is_divided_right() -> None:
    a, y = aligned((8, 3, 8), "float32"), aligned((10, 3, 16), "float32")
    a[...] = np.arange(1, 193).reshape(8, 3, 8)
    run(program(), AVX2, a, y)
    i, k, j = np.indices(y.shape)
    c = (i * 8 + j) % 80
    np.testing.assert_array_equal(y, np.where(c >= 20, a[(c - 20) // 8 % 8, k, (c - 20) % 8], 0))


def test_the_shield_leaves_no_trace() -> None:
    module = tvm.IRModule({"main": program()})
    shielded = shield_division(module)
    assert "stack.shield" in str(shielded)
    tvm.ir.assert_structural_equal(unshield_division(shielded), module)


def test_divisions_without_an_offset_need_none() -> None:
    a = te.placeholder((64,), "float32", name="a")
    module = tvm.IRModule({"main": te.create_prim_func([a, te.compute((80,), lambda i: a[te.floordiv(te.floormod(i, 16), 4)], name="y")])})
    tvm.ir.assert_structural_equal(shield_division(module), module)
