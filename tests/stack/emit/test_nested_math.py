from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule

from stack.emit.nested_math import nested_math
from stack.emit.vector_math import name_vector_math
from tests.schedules.cpu.programs import MACHINES, aligned, run

SIZE = 160


def chain(value: tirx.Expr) -> tirx.Expr:
    for _ in range(12):
        value = tirx.exp(-value)
    return value


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def mish(x: np.ndarray) -> np.ndarray:
    return x * np.tanh(np.log1p(np.exp(x)))


def repeated(x: np.ndarray) -> np.ndarray:
    for _ in range(12):
        x = np.exp(-x)
    return x


def guarded(i: tirx.Var, x: Callable[[tirx.Expr], tirx.Expr]) -> tirx.Expr:
    """Two branches, of which only one may be read."""
    return tirx.if_then_else(
        i < 70, tirx.tanh(tirx.log(1 + tirx.exp(x(i)))), tirx.if_then_else(i < 90, tirx.const(2.0), tirx.sigmoid(tirx.exp(x(i - 90))))
    )


CASES = {
    "three deep": (lambda i, x: x(i) * tirx.tanh(tirx.log(1 + tirx.exp(x(i)))), mish),
    "twelve deep": (lambda i, x: chain(x(i)), repeated),
    "a shared part": (
        lambda i, x: tirx.exp(-tirx.exp(x(i))) * tirx.sigmoid(tirx.exp(-tirx.exp(x(i)))),
        lambda x: np.exp(-np.exp(x)) * sigmoid(np.exp(-np.exp(x))),
    ),
    "under conditions": (
        guarded,
        lambda x: np.concatenate([np.tanh(np.log1p(np.exp(x[:70]))), np.full(20, 2.0), sigmoid(np.exp(x[:70]))]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("lanes", [None, 16])
@pytest.mark.parametrize("name", CASES)
def test_functions_of_functions_compile_and_are_right(name: str, lanes: int | None) -> None:
    body, reference = CASES[name]
    data = te.placeholder((SIZE,), "float32", name="x")
    sch = Schedule(te.create_prim_func([data, te.compute((SIZE,), lambda i: body(i, data), name="y")]))
    if lanes:
        _, inner = sch.split(sch.get_loops(sch.get_sblock("y"))[0], [None, lanes])
        sch.vectorize(inner)
    x, y = aligned((SIZE,), "float32"), aligned((SIZE,), "float32")
    x[:] = np.random.default_rng(0).standard_normal(SIZE)
    run(sch.mod["main"], MACHINES[-1], x, y)
    np.testing.assert_allclose(y, reference(x.astype("float64")), rtol=1e-5)


def test_one_function_stays_where_it_is() -> None:
    data = te.placeholder((SIZE,), "float32", name="x")
    program = te.create_prim_func([data, te.compute((SIZE,), lambda i: tirx.exp(data[i]) + tirx.tanh(data[i]), name="y")])
    named = name_vector_math(tvm.IRModule({"main": program}))
    tvm.ir.assert_structural_equal(nested_math(named), named)
