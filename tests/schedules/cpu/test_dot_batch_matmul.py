"""Products of two activations of bytes are exact, each batch with its own panels."""

import ctypes

import numpy as np
import pytest
from tvm import te, tirx

from schedules.cpu import RULES
from schedules.rule import first_space
from tests.schedules.cpu import dot_build
from tests.schedules.cpu.dot_build import MACHINES


def product(batch: tuple[int, ...], rows: int, depth: int, columns: int) -> tirx.PrimFunc:
    """x [batch, rows, depth] of uint8 times y [batch, depth, columns] of int8, as float32."""
    x = te.placeholder((*batch, rows, depth), "uint8", name="x")
    y = te.placeholder((*batch, depth, columns), "int8", name="y")
    blocks = -(-columns // 16)

    def pack(*index: tirx.Var) -> tirx.Expr:
        *b, block, ko, fi, ki = index
        column = block * 16 + fi
        value = y[(*b, ko * 4 + ki, column)]
        return te.if_then_else(column < columns, value, tirx.const(0, "int8")) if columns % 16 else value

    panels = te.compute((*batch, blocks, depth // 4, 16, 4), pack, name="pack_columns")
    ko, ki = te.reduce_axis((0, depth // 4), "ko"), te.reduce_axis((0, 4), "ki")

    def element(*index: tirx.Var) -> tirx.Expr:
        *b, m, block, fi = index
        left, right = x[(*b, m, ko * 4 + ki)].astype("int32"), panels[(*b, block, ko, fi, ki)].astype("int32")
        return te.sum(left * right, axis=[ko, ki])

    sums = te.compute((*batch, rows, blocks, 16), element, name="batch_matmul_dot")

    def scaled(*index: tirx.Var) -> tirx.Expr:
        *b, m, column = index
        return sums[(*b, m, column // 16, column % 16)].astype("float32") * tirx.const(0.5, "float32")

    result = te.compute((*batch, rows, columns), scaled, name="scaled")
    return te.create_prim_func([x, y, result], index_dtype_override="int64")


@pytest.mark.parametrize("machine", MACHINES)
def test_products_are_exact(machine: str) -> None:
    shapes = [((2, 3), 7, 32, 32), ((2,), 13, 20, 25), ((1, 2), 1, 64, 48), ((3,), 50, 8, 16)]
    functions, inputs, expected = [], [], []
    rng = np.random.default_rng(0)
    for index, (batch, rows, depth, columns) in enumerate(shapes):
        function = product(batch, rows, depth, columns)
        space = first_space(RULES, function, dot_build.MACHINES[machine])
        assert space.rule == "dot_batch_matmul"
        point = dict(space.default) | (
            {"pixels": space.knobs["pixels"][-1], "blocks": 1, "chunk": space.knobs["chunk"][-1]} if index % 2 else {}
        )
        functions.append(space.apply(point).mod["main"])
        x = rng.integers(0, 256, (*batch, rows, depth), dtype=np.uint8)
        y = rng.integers(-128, 128, (*batch, depth, columns), dtype=np.int8)
        inputs.append((x, y))
        expected.append((x.astype(np.int64) @ y.astype(np.int64)).astype(np.float32) * 0.5)
    with dot_build.built(functions, machine) as library:
        for index, (x, y) in enumerate(inputs):
            out = np.zeros(expected[index].shape, np.float32)
            assert library[f"kernel{index}"](*(ctypes.c_void_p(array.ctypes.data) for array in (x, y, out))) == 0
            np.testing.assert_array_equal(out, expected[index], err_msg=str(shapes[index]))
