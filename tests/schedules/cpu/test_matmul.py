import math

import numpy as np
import pytest
from tvm import relax, te, tirx

from relay_passes.lower_matmul import lower_matmul
from schedules.cpu.matmul import Tiles, pack
from schedules.machine import Machine
from schedules.space import Point
from tests.schedules.cpu.programs import AVX512, MACHINES, floats, result, space

t = relax.transform
erf = np.vectorize(math.erf, otypes=[np.float64])


def layer(shape: tuple[int, ...], weights: np.ndarray, bias: np.ndarray, machine: Machine, smooth: bool = False) -> tirx.PrimFunc:
    """relu(matmul(x, weights) + bias), or its GELU, lowered and fused into one program."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.matmul(x, relax.const(weights)))
            y = builder.emit(relax.op.add(y, relax.const(bias)))
            out = builder.emit_output(relax.op.nn.gelu(y) if smooth else relax.op.nn.relu(y))
        builder.emit_func_output(out)
    module = builder.get()
    for graph_pass in [
        t.LegalizeOps({"relax.matmul": lower_matmul(machine)}), t.AnnotateTIROpPattern(), t.FuseOps(), t.FuseTIR(), t.DeadCodeElimination(),
    ]:  # fmt: skip
        module = graph_pass(module)
    (function,) = (f for f in module.functions.values() if isinstance(f, tirx.PrimFunc))
    return function


def computed(
    function: tirx.PrimFunc, x: np.ndarray, weights: np.ndarray, bias: np.ndarray, machine: Machine = AVX512, point: Point | None = None
) -> np.ndarray:
    """What `function` computes at a point, of the constants as the point wants them."""
    chosen = space(function, machine)
    point = {**chosen.default, **(point or {})}
    assert chosen.pack
    assert chosen.holds(point), point
    packed = chosen.pack(point, [weights, bias])
    return result(function, x, *packed, machine=machine, point=point, rule="packed_matmul", threads=2)


SHAPES = [
    ((1, 40), 24), ((1, 512), 214), ((2, 64), 1000), ((7, 33), 88), ((49, 65), 100), ((128, 64), 96), ((131, 40), 10),
    ((1, 128, 48), 64), ((5, 1, 16), 3),
]  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: f"{machine.vector_bytes}-byte")
@pytest.mark.parametrize(("shape", "columns"), SHAPES)
def test_any_rows_columns_and_depth(shape: tuple[int, ...], columns: int, machine: Machine) -> None:
    x, weights, bias = floats(*shape), floats(shape[-1], columns, seed=1), floats(columns, seed=2)
    expected = np.maximum(x.astype(np.float64) @ weights + bias, 0)
    y = computed(layer(shape, weights, bias, machine), x, weights, bias, machine if machine in MACHINES else MACHINES[0])
    assert y.shape == expected.shape
    assert np.allclose(y, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("knob", ["tile_rows", "vectors", "depth", "block_rows", "unroll", "panels_outside", "prefetch"])
def test_every_value_of_every_knob_computes_the_same(knob: str) -> None:
    x, weights, bias = floats(37, 44), floats(44, 150, seed=1), floats(150, seed=2)
    function = layer(x.shape, weights, bias, MACHINES[-1], smooth=True)
    y = x.astype(np.float64) @ weights + bias
    expected = y * (1 + erf(y / np.sqrt(2))) / 2
    chosen = space(function, MACHINES[-1])
    for value in chosen.knobs[knob]:
        small = {"block_rows": chosen.knobs["block_rows"][0], "depth": chosen.knobs["depth"][0]}
        point = {**chosen.default, **small, "tile_rows": 3, "vectors": 2, knob: value}
        if not chosen.legal(point):
            point |= {"tile_rows": 1} if knob == "vectors" else {"vectors": 1}
        assert np.allclose(computed(function, x, weights, bias, MACHINES[-1], point), expected, rtol=1e-4, atol=1e-4), point


def test_other_constants_keep_their_places() -> None:
    function = layer((8, 16), floats(16, 40), floats(40), AVX512)
    chosen = space(function)
    assert chosen.pack
    assert chosen.in_place
    bias, weights = floats(40), floats(16, 40)
    panels, same = chosen.pack(chosen.default, [weights, bias])
    assert same is bias
    width = int(chosen.default["vectors"]) * 16
    assert panels.shape == (-(-40 // width), 16, width)
    assert np.array_equal(np.concatenate(list(panels), axis=1)[:, :40], weights)


def test_a_panel_holds_its_columns_row_by_row_with_zeros_at_the_end() -> None:
    packed = pack(np.arange(6, dtype=np.float32).reshape(2, 3), 2)
    assert packed.tolist() == [[[0, 1], [3, 4]], [[2, 0], [5, 0]]]


@pytest.mark.parametrize(("rows", "most"), [(1, 14), (13, 14), (15, 14), (128, 14), (197, 12), (29, 3)])
def test_tiles_differ_by_one_row_at_most_and_cover_all(rows: int, most: int) -> None:
    tiles = Tiles.of(rows, most)
    assert tiles.height <= most
    assert tiles.tall * tiles.height + (tiles.count - tiles.tall) * (tiles.height - 1) == rows


@pytest.mark.parametrize("machine", [AVX512, Machine(vector_bytes=32, vector_registers=16)])
@pytest.mark.parametrize(("rows", "columns"), [(1, 10), (1, 4096), (3, 88), (49, 1000), (131, 384), (2048, 64)])
def test_a_tile_fits_the_registers(rows: int, columns: int, machine: Machine) -> None:
    default = space(layer((rows, 16), floats(16, columns), floats(columns), machine), machine).default
    vectors = int(default["vectors"])
    assert int(default["tile_rows"]) * vectors + vectors + 1 <= machine.vector_registers


def test_loops_are_described_for_many_points_at_once() -> None:
    chosen = space(layer((128, 64), floats(64, 96), floats(96), AVX512))
    assert chosen.nests
    columns = {name: np.array([value, value]) if type(value) is int else value for name, value in chosen.default.items()}
    (nest,) = chosen.nests(columns)
    assert np.allclose(np.prod([np.broadcast_to(loop.extent, 2) for loop in nest.loops], axis=0), 128 * 64 * 96)


def test_other_programs_are_declined() -> None:
    x = te.placeholder((4, 4), name="x")
    function = te.create_prim_func([x, te.compute((4, 4), lambda i, j: x[i, j] + 1.0, name="packed")])
    assert space(function).rule == "elementwise"
