"""A byte for each byte: any number of elements, every entry, and programs that look something else up."""

import ctypes

import numpy as np
import pytest
from tvm import te, tirx

from schedules.cpu import RULES
from schedules.cpu.table_of_bytes import table_of_bytes
from schedules.rule import first_space
from tests.schedules.cpu import dot_build
from tests.schedules.cpu.dot_build import MACHINES


def lookup(shape: tuple[int, ...], dtype: str = "uint8", entries: int = 256) -> tirx.PrimFunc:
    x, table = te.placeholder(shape, "uint8", name="x"), te.placeholder((entries,), dtype, name="table")
    y = te.compute(shape, lambda *index: table[x[index].astype("int32")], name="table")
    return te.create_prim_func([x, table, y], index_dtype_override="int64")


@pytest.mark.parametrize("machine", MACHINES)
def test_look_ups_are_exact(machine: str) -> None:
    shapes = [(256,), (2, 5, 64), (1, 7, 9, 11), (64,), (3, 67), (130, 1100)]
    spaces = [first_space(RULES, lookup(shape), dot_build.MACHINES[machine]) for shape in shapes]
    assert {space.rule for space in spaces} == {"table_of_bytes"}
    rng = np.random.default_rng(0)
    with dot_build.built([space.apply(space.default).mod["main"] for space in spaces], machine) as library:
        for index, shape in enumerate(shapes):
            x = rng.permutation(np.resize(np.arange(256, dtype=np.uint8), np.prod(shape))).reshape(shape)
            table = rng.permutation(256).astype(np.uint8)
            y = np.full(x.size + 64, 77, np.uint8)
            assert library[f"kernel{index}"](*(ctypes.c_void_p(array.ctypes.data) for array in (x, table, y))) == 0
            np.testing.assert_array_equal(y[:-64].reshape(shape), table[x], err_msg=str(shape))
            assert (y[-64:] == 77).all()


@pytest.mark.parametrize("program", [lookup((300,), "int32"), lookup((300,), entries=300), lookup((5,))])
def test_other_look_ups_are_declined(program: tirx.PrimFunc) -> None:
    assert table_of_bytes(program, dot_build.VNNI) is None
    assert first_space(RULES, program, dot_build.VNNI).rule == "elementwise"


def test_bytes_out_of_order_are_declined() -> None:
    x, table = te.placeholder((20, 30), "uint8", name="x"), te.placeholder((256,), "uint8", name="table")
    y = te.compute((30, 20), lambda i, j: table[x[j, i].astype("int32")], name="table")
    assert table_of_bytes(te.create_prim_func([x, table, y], index_dtype_override="int64"), dot_build.VNNI) is None
