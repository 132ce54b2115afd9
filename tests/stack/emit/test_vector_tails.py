import tvm
from tvm import tirx
from tvm.script import tirx as T

from stack.emit.vector_tails import vector_tails


def lowered(function: tirx.PrimFunc) -> str:
    module = tvm.IRModule({"main": function})
    return str(tirx.transform.StmtSimplify()(vector_tails(module))["main"].script())


def test_a_bound_becomes_whole_vectors_and_one_shorter_vector() -> None:
    @T.prim_func(private=True)
    def odd(x: T.Buffer((50,), "float32"), y: T.Buffer((50,), "float32")) -> None:
        for i in range(4):
            for v in T.vectorized(16):
                if i * 16 + v < 50:
                    y[i * 16 + v] = x[i * 16 + v]

    script = lowered(odd)
    assert "T.vectorized(16)" in script
    assert "T.vectorized(2)" in script
    assert "i * 16 + v < 50" not in script


def test_a_condition_without_the_lane_stays_around_the_vector() -> None:
    @T.prim_func(private=True)
    def row(x: T.Buffer((64,), "float32"), y: T.Buffer((64,), "float32")) -> None:
        for i in range(4):
            for v in T.vectorized(16):
                if i < 3:
                    y[i * 16 + v] = x[i * 16 + v]

    assert lowered(row) == str(tirx.transform.StmtSimplify()(tvm.IRModule({"main": row}))["main"].script())


def test_padding_on_both_sides_becomes_vectors_between_two_edges() -> None:
    @T.prim_func(private=True)
    def pad(x: T.Buffer((46,), "float32"), y: T.Buffer((48,), "float32")) -> None:
        for i in range(3):
            for v in T.vectorized(16):
                y[i * 16 + v] = T.if_then_else(i * 16 + v >= 1 and i * 16 + v < 47, x[i * 16 + v - 1], T.float32(0))

    script = lowered(pad)
    assert "if_then_else" not in script
    assert "T.vectorized(15)" in script


def test_a_boundary_that_may_lie_anywhere_makes_a_scalar_loop() -> None:
    @T.prim_func(private=True)
    def anywhere(n: T.Buffer((1,), "int32"), x: T.Buffer((64,), "float32"), y: T.Buffer((64,), "float32")) -> None:
        for i in range(4):
            for v in T.vectorized(16):
                if i * 16 + v < n[0]:
                    y[i * 16 + v] = x[i * 16 + v]

    assert "vectorized" not in lowered(anywhere)


def test_a_select_stays_a_blend() -> None:
    @T.prim_func(private=True)
    def blend(x: T.Buffer((16,), "float32"), y: T.Buffer((16,), "float32")) -> None:
        for v in T.vectorized(16):
            y[v] = T.Select(v < 3, x[v], T.float32(0))

    assert "T.Select" in lowered(blend)
    assert "T.vectorized(16)" in lowered(blend)
