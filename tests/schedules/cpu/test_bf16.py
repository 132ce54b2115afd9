"""Products in bfloat16 compute what float32 gives for rounded operands, whatever the tile, and are chosen only where that is allowed."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import tvm
from tvm import tirx

import stack
from schedules.cpu.bf16 import pack_pairs, precisions, to_bf16
from schedules.machine import Machine
from schedules.space import Point
from schedules.tuning.features import featurize
from stack.decide import Decisions
from stack.emit import kernels
from targets.x86.detect import cpu_flags
from tests.schedules.cpu import programs
from tests.schedules.cpu.convolutions import NONE, Conv, reference
from tests.schedules.cpu.programs import AVX2, AVX512, MACHINES, aligned, floats, run, space
from tests.schedules.cpu.test_conv2d import model, values
from tests.schedules.cpu.test_matmul import layer

PLAIN = replace(MACHINES[-1], reduced_precision=True)
DOT = replace(AVX512, reduced_precision=True, bf16_dot=True)
HAS_DOT = "avx512_bf16" in cpu_flags()
MODES = [("bf16", PLAIN), pytest.param("bf16_dot", DOT, marks=pytest.mark.skipif(not HAS_DOT, reason="this CPU has no AVX512-BF16"))]


@pytest.fixture(autouse=True)
def code_for_both(monkeypatch):
    for machine, cpu in ((PLAIN, programs.CODEGEN[MACHINES[-1]]), (DOT, "cooperlake")):
        monkeypatch.setitem(programs.CODEGEN, machine, cpu)


def rounded(array: np.ndarray) -> np.ndarray:
    return (to_bf16(np.ascontiguousarray(array)).astype(np.uint32) << 16).view(np.float32)


def computed(function: tirx.PrimFunc, machine: Machine, point: Point, x: np.ndarray, constants: Sequence[np.ndarray]) -> np.ndarray:
    chosen = space(function, machine)
    point = {**chosen.default, **point}
    assert chosen.holds(point), point
    assert chosen.pack
    out = function.params[-1]
    given = [x, *chosen.pack(point, constants)]
    arrays = [aligned(array.shape, str(array.dtype)) for array in given]
    for memory, array in zip(arrays, given, strict=True):
        memory[...] = array
    arrays.append(aligned(tuple(int(extent) for extent in out.shape), "float32"))
    run(chosen.apply(point).mod["main"], machine, *arrays, threads=2)
    return arrays[-1]


SHAPES = [
    (1, 40, 24, {}), (5, 65, 90, {}), (131, 40, 10, {}), (3, 2, 20, {}), (37, 45, 150, {"depth": 23, "unroll": 2}),
    (37, 44, 150, {"depth": 6, "block_rows": 32, "panels_outside": False, "prefetch": True}), (2, 600, 500, {"vectors": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("precision", "machine"), MODES)
@pytest.mark.parametrize(("rows", "depth", "columns", "point"), SHAPES)
def test_a_product_is_that_of_rounded_operands(rows, depth, columns, point, precision, machine):
    x, weights, bias = floats(rows, depth), floats(depth, columns, seed=1), floats(columns, seed=2)
    function = layer(x.shape, weights, bias, machine)
    y = computed(function, machine, {**point, "precision": precision}, x, [weights, bias])
    left = rounded(x) if precision == "bf16_dot" else x
    expected = np.maximum(left.astype(np.float64) @ rounded(weights) + bias, 0)
    assert np.allclose(y, expected, rtol=1e-5, atol=1e-5 * depth)
    assert not np.allclose(y, np.maximum(x.astype(np.float64) @ weights + bias, 0), rtol=1e-5, atol=1e-5 * depth)


@pytest.mark.parametrize(("precision", "machine"), MODES)
def test_what_is_no_number_stays_so_and_what_is_infinite_too(precision, machine):
    x, weights, bias = floats(3, 5), floats(5, 20, seed=1), np.zeros(20, np.float32)
    x[0, 4], x[1, 2] = np.inf, np.nan  # the last of an odd number has a zero beside it
    y = computed(layer(x.shape, weights, bias, machine, smooth=False), machine, {"precision": precision}, x, [np.abs(weights), bias])
    assert np.all(y[0] == np.inf)
    assert not np.any(np.isfinite(y[1]) & (y[1] != 0))
    assert np.all(np.isfinite(y[2]))


def test_bfloat16_rounds_ties_to_even_and_keeps_what_is_no_number():
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, np.nan, np.inf, -0.0], np.float32)
    assert np.array_equal(rounded(values), np.array([1.0, 1.0, 1 + 2**-6, np.nan, np.inf, -0.0], np.float32), equal_nan=True)
    weights = floats(64, 90)
    assert np.abs(rounded(weights) / weights - 1).max() <= 2.0**-8


def test_pairs_of_rows_take_half_the_bytes():
    pairs = pack_pairs(np.array([[[1.0, 2.0], [-1.0, 0.5], [4.0, 8.0]]], np.float32))
    assert pairs.view(np.uint32).tolist() == [[[0xBF803F80, 0x3F004000], [0x00004080, 0x00004100]]]


def test_only_what_the_user_allows_and_the_machine_can_is_offered():
    assert precisions(AVX512, 64) == ("f32",)
    assert precisions(replace(AVX512, bf16_dot=True), 64) == ("f32",)
    assert precisions(replace(AVX2, reduced_precision=True), 64) == ("f32", "bf16")
    assert precisions(DOT, 64) == ("f32", "bf16", "bf16_dot")
    assert precisions(DOT, 1) == ("f32",)


@pytest.mark.parametrize(("rows", "expected"), [(1, "bf16"), (24, "bf16"), (64, "f32")])
def test_few_rows_take_weights_in_bfloat16_since_those_stream(rows, expected):
    function = layer((rows, 64), floats(64, 90), floats(90), DOT)
    assert space(function, DOT).default["precision"] == expected
    assert "precision" not in space(function, AVX512).default


def test_the_cost_model_sees_the_precision():
    chosen = space(layer((8, 64), floats(64, 90), floats(90), DOT), DOT)
    table = featurize(chosen, DOT, [{**chosen.default, "precision": value} for value in chosen.knobs["precision"]])
    assert np.isfinite(table.take(["number.dot", "number.widened", "bytes.read1"])).all()
    assert len(np.unique(table.take(["number.dot", "number.widened"]), axis=0)) == 3


@pytest.mark.skipif(not HAS_DOT, reason="this CPU has no AVX512-BF16")
def test_the_instruction_stands_in_the_place_of_the_call(tmp_path):
    function = layer((4, 64), floats(64, 32), floats(32), DOT)
    chosen = space(function, DOT)
    scheduled = chosen.apply({**chosen.default, "precision": "bf16_dot"}).mod["main"].with_attr("global_symbol", "kernel")
    kernels.build_together([scheduled], tvm.target.Target({"kind": "llvm", "mcpu": "cooperlake"}), tmp_path / "kernel.o")
    assert b"stack_bf16" not in (tmp_path / "kernel.o").read_bytes()


CONVOLUTIONS = [
    Conv(40, 36, kernel=(1, 1), padding=NONE, strides=(2, 2)),
    Conv(16, 24, w=12, padding=NONE, strides=(2, 1)),
    Conv(33, 64, h=4, w=5, kernel=(1, 1), padding=NONE, n=2), Conv(24, 1000, h=1, w=1, kernel=(1, 1), padding=NONE),
]  # fmt: skip


@pytest.mark.parametrize(("precision", "machine"), MODES)
def test_a_convolution_as_a_product_takes_the_same_precisions(precision, machine, monkeypatch):
    """Whatever its strides and its channels, which lie in blocks."""
    taken = []

    def product(_self, _program, space):
        sizes = {"tile_h": 1, "tile_w": min(2, *space.knobs.get("tile_w", (1,))[-1:]), "tile_k": 1, "parts": 1}
        point = {**space.default, **sizes, "algorithm": "product", "precision": precision}
        if not space.holds(point):  # another program than a convolution
            return space.default, "default"
        taken.append(point)
        return point, "default"

    monkeypatch.setattr(Decisions, "decide", product)
    target = "x86-avx512-bf16" if precision == "bf16_dot" else "x86-avx2" if machine.vector_bytes == 32 else "x86-avx512"
    library = stack.compile(model(CONVOLUTIONS), target, threads=2, precision="bf16")
    assert len(taken) == len(CONVOLUTIONS)
    images = {f"x{index}": values(conv.image, 100 + index) for index, conv in enumerate(CONVOLUTIONS)}
    results = library.run(images)
    for index, conv in enumerate(CONVOLUTIONS):
        x, w = images[f"x{index}"], values(conv.weight, index)
        expected = reference(rounded(x) if precision == "bf16_dot" else x, rounded(w), conv)
        np.testing.assert_allclose(results[f"y{index}"], expected, rtol=1e-4, atol=1e-4, err_msg=str(conv))
