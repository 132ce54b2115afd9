import numpy as np
import pytest
from tvm import te, tirx

from relay_passes.lower_attention import SCALE, attention
from tests.schedules.cpu.programs import MACHINES, floats, result, space


def layer(arrays: list[np.ndarray], scale: float) -> tirx.PrimFunc:
    tensors = [te.placeholder(array.shape, "float32", name=f"x{i}") for i, array in enumerate(arrays)]
    out = attention(*tensors[:3], tensors[3] if len(tensors) > 3 else None, scale)
    program = te.create_prim_func([*tensors, out], index_dtype_override="int64")
    return program.with_attr(SCALE, tirx.const(scale, "float32"))


def expected(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | float, scale: float) -> np.ndarray:
    scores = np.einsum("bihd,bjhd->bhij", q.astype(np.float64), k) * scale + mask
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhij,bjhc->bihc", e / e.sum(-1, keepdims=True), v)


@pytest.mark.parametrize(
    ("sizes", "mask"),
    [
        ((1, 7, 2, 5, 9, 3), None),
        ((2, 29, 3, 16, 29, 20), (2, 1, 1, 29)),
        ((1, 33, 1, 64, 33, 64), None),
        ((1, 16, 2, 8, 32, 16), (1, 2, 16, 32)),
    ],
)
def test_any_sizes_and_masks(sizes: tuple[int, ...], mask: tuple[int, ...] | None) -> None:
    batch, rows, heads, depth, keys, columns = sizes
    arrays = [floats(batch, rows, heads, depth), floats(batch, keys, heads, depth, seed=1), floats(batch, keys, heads, columns, seed=2)]
    arrays += [floats(*mask, seed=3)] if mask else []
    y = result(layer(arrays, 0.3), *arrays, machine=MACHINES[-1], rule="attention", threads=2)
    assert np.allclose(y, expected(*arrays[:3], arrays[3] if mask else 0.0, 0.3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("knob", ["tile_rows", "vectors", "columns", "parts", "copy_values"])
def test_every_value_of_every_knob_computes_the_same(knob: str) -> None:
    arrays = [floats(1, 19, 2, 8, seed=seed) for seed in range(3)]
    function = layer(arrays, 0.5)
    chosen = space(function, MACHINES[-1])
    for value in chosen.knobs[knob]:
        point = {**chosen.default, "tile_rows": 4, knob: value}
        y = result(function, *arrays, machine=MACHINES[-1], point=point, threads=2)
        assert np.allclose(y, expected(*arrays, 0.0, 0.5), rtol=1e-4, atol=1e-5), point
    assert chosen.nests
    columns = {name: value if isinstance(value, bool) else np.array([value, value]) for name, value in chosen.default.items()}
    assert len(chosen.nests(columns)) == 2
