import numpy as np
import pytest
from tvm import relax, te, tirx

from relay_passes.lower_matmul import lower_matmul, pack, panels
from schedules.machine import Machine
from tests.schedules.cpu.programs import AVX512, MACHINES, floats, result, space

t = relax.transform


def layer(shape: tuple[int, ...], weights: np.ndarray, bias: np.ndarray, machine: Machine) -> tuple[tirx.PrimFunc, np.ndarray]:
    """relu(matmul(x, weights) + bias), lowered and fused into one program; and its packed weights."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.matmul(x, relax.const(weights)))
            y = builder.emit(relax.op.add(y, relax.const(bias)))
            out = builder.emit_output(relax.op.nn.relu(y))
        builder.emit_func_output(out)
    module = builder.get()
    for graph_pass in [
        t.LegalizeOps({"relax.matmul": lower_matmul(machine)}), t.AnnotateTIROpPattern(), t.FuseOps(), t.FuseTIR(), t.DeadCodeElimination(),
    ]:  # fmt: skip
        module = graph_pass(module)
    (function,) = (f for f in module.functions.values() if isinstance(f, tirx.PrimFunc))
    width = int(function.params[1].shape[-1])
    return function, pack(weights, width)


SHAPES = [
    ((1, 40), 24), ((1, 512), 214), ((2, 64), 1000), ((7, 33), 88), ((49, 65), 100), ((128, 64), 96), ((131, 40), 10),
    ((1, 128, 48), 64), ((5, 1, 16), 3),
]  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: f"{machine.vector_bytes}-byte")
@pytest.mark.parametrize(("shape", "columns"), SHAPES)
def test_any_rows_columns_and_depth(shape: tuple[int, ...], columns: int, machine: Machine) -> None:
    x, weights, bias = floats(*shape), floats(shape[-1], columns, seed=1), floats(columns, seed=2)
    function, packed = layer(shape, weights, bias, machine)
    expected = np.maximum(x.astype(np.float64) @ weights + bias, 0)
    y = result(function, x, packed, bias, machine=machine, rule="packed_matmul")
    assert y.shape == expected.shape
    assert np.allclose(y, expected, rtol=1e-5, atol=1e-4)


def test_every_point_computes_the_same() -> None:
    x, weights, bias = floats(24, 32), floats(32, 40, seed=1), floats(40, seed=2)
    function, packed = layer(x.shape, weights, bias, AVX512)
    expected = np.maximum(x @ weights + bias, 0)
    knobs = space(function).knobs
    for outside in knobs["panels_outside"]:
        for unroll in knobs["unroll"]:
            point = {"tile_rows": knobs["tile_rows"][0 if outside else -1], "unroll": unroll, "panels_outside": outside}
            assert np.allclose(result(function, x, packed, bias, point=point, threads=2), expected, rtol=1e-4, atol=1e-4)


def test_the_tail_is_computed_on_the_tile() -> None:
    function, _ = layer((128, 64), floats(64, 96), floats(96), AVX512)
    chosen = space(function)
    script = chosen.apply(chosen.default).mod["main"].script()
    assert 'scope="local"' in script
    assert script.count("T.sblock_alloc_buffer") == 1


@pytest.mark.parametrize("machine", [AVX512, Machine(vector_bytes=32, vector_registers=16)])
@pytest.mark.parametrize(("rows", "columns"), [(1, 10), (1, 4096), (3, 88), (49, 1000), (131, 384), (2048, 64)])
def test_a_tile_fits_the_registers(rows: int, columns: int, machine: Machine) -> None:
    tile = panels(rows, columns, machine)
    assert tile.tile_rows * tile.vectors + tile.vectors + 1 <= machine.vector_registers
    assert 1 <= tile.tile_rows <= rows


def test_other_programs_are_declined() -> None:
    x = te.placeholder((4, 4), name="x")
    function = te.create_prim_func([x, te.compute((4, 4), lambda i, j: x[i, j] + 1.0, name="packed")])
    assert space(function).rule == "elementwise"
