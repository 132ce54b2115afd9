"""Streaming networks keep their state: variables, variable tensors of SVDF and LSTM, step by step as TFLite Micro does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stack
from stack.errors import UnsupportedOp
from stack.frontends.model import Model
from stack.frontends.tflite import load
from stack.frontends.tflite.read import read
from tests.frontends.tflite.build import C, Micro, T, graph, model, op


class Stream:
    """A compiled streaming network, whose states go from call to call."""

    def __init__(self, data: bytes) -> None:
        self.model: Model = load(data, {})
        self.library = stack.compile(data, threads=2)
        self.states = {state.name: state.initial for state in self.model.states}

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        results = self.library.run(dict(zip(self.model.input_names, arrays, strict=True)) | self.states)
        self.states = {name: results[name] for name in self.states}
        return [results[name] for name in self.model.output_names]


def compare(data: bytes, steps: Sequence[np.ndarray], apart: float) -> list[np.ndarray]:
    """Run both over the steps; returns TFLite Micro's results."""
    ours, theirs, wanted = Stream(data), Micro(data), []
    for number, step in enumerate(steps):
        (got,), (want,) = ours.run([step]), theirs.run([step])
        difference = np.abs(got.astype(np.float64) - want.astype(np.float64)).max()
        assert difference <= apart, f"step {number} is {difference} apart"
        wanted.append(want)
    assert len({want.tobytes() for want in wanted}) > 1, "all steps give one result, which proves nothing"
    return wanted


def counter(*, container: str = "") -> bytes:
    """y = v + x; v := y. v starts at 5."""
    variable = {"shared_name": "v"} | ({"container": container} if container else {})
    start = graph(
        [],
        [op("VAR_HANDLE", [], ["r"], **variable), op("ASSIGN_VARIABLE", ["r", "first"], [])],
        [],
        tensors=[T("r", (), "resource")],
        constants=[C("first", np.full((1, 3), 5, np.float32))],
    )
    nodes = [
        op("CALL_ONCE", [], [], init_subgraph_index=1),
        op("VAR_HANDLE", [], ["r"], **variable),
        op("READ_VARIABLE", ["r"], ["v"]),
        op("ADD", ["v", "x"], ["y"]),
        op("ASSIGN_VARIABLE", ["r", "y"], []),
    ]
    tensors = [T("r", (), "resource"), T("v", (1, 3)), T("y", (1, 3))]
    return model([T("x", (1, 3))], nodes, ["y"], tensors=tensors, subgraphs=[start])


def test_a_variable_is_an_input_and_an_output() -> None:
    found = load(counter(), {})
    (state,) = found.states
    assert state.name == "v"
    np.testing.assert_array_equal(state.initial, np.full((1, 3), 5, np.float32))
    assert [str(param.name) for param in found.module["main"].params] == ["input_0", "state_0"]
    compare(counter(), [np.ones((1, 3), np.float32)] * 3, 0)


def test_a_container_is_part_of_the_name() -> None:
    assert [state.name for state in load(counter(container="box"), {}).states] == ["box/v"]


def test_what_is_never_assigned_at_first_starts_at_its_zero_point() -> None:
    nodes = [op("VAR_HANDLE", [], ["r"], shared_name="v"), op("READ_VARIABLE", ["r"], ["y"]), op("ASSIGN_VARIABLE", ["r", "x"], [])]
    x, y = (T(name, (1, 3), "int8", 0.5, -7) for name in "xy")
    data = model([x], nodes, ["y"], tensors=[T("r", (), "resource"), y])
    (state,) = load(data, {}).states
    np.testing.assert_array_equal(state.initial, np.full((1, 3), -7, np.int8))
    compare(data, [np.array([[1, 2, 3]], np.int8), np.array([[4, 5, 6]], np.int8)], 0)


def svdf(rank: int, state: str, claimed: int | None = None) -> bytes:
    """Three units of two inputs over a memory of four; `state` is the element type of the state."""
    units, inputs, memory, rng = 3, 2, 4, np.random.default_rng(0)
    features, time, bias = (rng.normal(size=shape) for shape in ((units * rank, inputs), (units * rank, memory), units))
    kept = (1, memory * units * rank)
    nodes = [
        op(
            "SVDF",
            ["x", "f", "t", "b", "s"],
            ["y"],
            rank=claimed or rank,
            fused_activation_function="RELU" if state == "float32" else "NONE",
        )
    ]
    if state == "float32":
        constants = [C("f", features.astype("f")), C("t", time.astype("f")), C("b", bias.astype("f"))]
        tensors = [T("s", kept, variable=True), T("y", (1, units))]
        return model([T("x", (1, inputs))], nodes, ["y"], tensors=tensors, constants=constants)
    limit = 127 if state == "int8" else 32767
    scales = {"x": 0.03, "f": 0.02, "s": 8 / limit, "t": 3 / limit}
    constants = [
        C("f", np.round(features / scales["f"]).clip(-127, 127).astype(np.int8), scales["f"]),
        C("t", np.round(time / scales["t"]).clip(-limit, limit).astype(state), scales["t"]),
        C("b", np.round(bias / (scales["s"] * scales["t"])).astype(np.int32), scales["s"] * scales["t"]),
    ]
    tensors = [T("s", kept, state, scales["s"], variable=True), T("y", (1, units), "int8", 0.2, -11)]
    return model([T("x", (1, inputs), "int8", scales["x"], 5)], nodes, ["y"], tensors=tensors, constants=constants)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize(("state", "apart"), [("float32", 1e-5), ("int8", 1), ("int16", 1)])
def test_svdf(rank: int, state: str, apart: float) -> None:
    steps = np.random.default_rng(1).normal(size=(8, 1, 2))
    arrays = steps.astype("f") if state == "float32" else np.round(steps / 0.03).clip(-128, 127).astype(np.int8)
    compare(svdf(rank, state), list(arrays), apart)


BATCH, TIME, INPUT, UNITS = 2, 2, 5, 4


def lstm(
    dtype: str, *, time: int = TIME, time_major: bool = False, clip: float = 0.0, extra: dict[int, str] | None = None, **given: Any
) -> bytes:
    """A layer over [batch, time, input]; `dtype` is that of its activations."""
    rng = np.random.default_rng(7)
    names: list[str | None] = [None] * 24
    constants, quantized = [], dtype != "float32"
    x_scale, h_scale, zero = (1 / 32, 1 / 128, 3) if dtype == "int8" else (1 / 8192, 1 / 32768, 0)
    for gate in range(4):
        for first, width, scale in ((1, INPUT, x_scale), (5, UNITS, h_scale)):
            weights = rng.normal(size=(UNITS, width)) * 0.6
            names[first + gate] = f"w{first + gate}"
            stored = np.round(weights * 60).clip(-127, 127).astype(np.int8)
            constants.append(C(f"w{first + gate}", stored, 1 / 60) if quantized else C(f"w{first + gate}", weights.astype("f")))
            if first == 1:
                bias, name = rng.normal(size=UNITS) * 0.3, f"b{gate}"
                names[12 + gate] = name
                wide = np.int32 if dtype == "int8" else np.int64
                constants.append(C(name, np.round(bias / scale * 60).astype(wide), scale / 60) if quantized else C(name, bias.astype("f")))
    names[0], names[18], names[19] = "x", "h", "c"
    for position, name in (extra or {}).items():
        names[position] = name
    shape = (time, BATCH) if time_major else (BATCH, time)
    scaled = (lambda scale, zero: (dtype, scale, zero)) if quantized else (lambda _scale, _zero: ("float32", None, 0))
    cell = T("c", (BATCH, UNITS), "int16", 2.0**-11, variable=True) if quantized else T("c", (BATCH, UNITS), variable=True)
    tensors = [
        T("h", (BATCH, UNITS), *scaled(h_scale, zero), variable=True),
        given.get("cell", cell),
        T("y", (*shape, UNITS), *scaled(h_scale, zero)),
    ]
    options = {"fused_activation_function": given.get("activation", "TANH"), "cell_clip": clip, "time_major": time_major}
    node = op("UNIDIRECTIONAL_SEQUENCE_LSTM", names, ["y"], **options)
    return model([T("x", (*shape, INPUT), *scaled(x_scale, zero))], [node], ["y"], tensors=tensors, constants=constants)


@pytest.mark.parametrize(
    ("dtype", "apart", "time_major"), [("float32", 1e-5, False), ("float32", 1e-5, True), ("int8", 1, False), ("int16", 40, True)]
)
def test_lstm(dtype: str, apart: float, time_major: bool) -> None:
    shape = (3, TIME, BATCH, INPUT) if time_major else (3, BATCH, TIME, INPUT)
    steps = np.random.default_rng(1).normal(size=shape)
    scale = {"float32": 1.0, "int8": 32.0, "int16": 8192.0}[dtype]
    limits = {"float32": (-9, 9), "int8": (-128, 127), "int16": (-32768, 32767)}[dtype]
    arrays = steps if dtype == "float32" else np.round(steps * scale).clip(*limits)
    compare(lstm(dtype, time_major=time_major), list(arrays.astype(dtype)), apart)


@pytest.mark.parametrize(("dtype", "apart"), [("float32", 1e-5), ("int8", 1)])
def test_the_cell_is_clipped(dtype: str, apart: float) -> None:
    steps = np.random.default_rng(1).normal(size=(3, BATCH, 1, INPUT)) * 2
    arrays = steps.astype("f") if dtype == "float32" else np.round(steps * 32).clip(-128, 127).astype(np.int8)
    clipped, free = compare(lstm(dtype, time=1, clip=0.25), list(arrays), apart), Micro(lstm(dtype, time=1))
    assert any((left != free.run([step])[0]).any() for left, step in zip(clipped, arrays, strict=True))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lstm("float32", extra={9: "w1"}), "its peepholes, from the cell to the gates, are not compiled"),
        (lstm("float32", extra={16: "w1"}), "the projection of its result is not compiled"),
        (lstm("float32", extra={20: "w1"}), "the normalisation in its gates is not compiled"),
        (lstm("float32", activation="RELU"), "only tanh is compiled in its cell gate"),
        (lstm("float32", cell=T("c", (BATCH, UNITS), "int16", 0.5, variable=True)), "only some of its tensors are quantised, or its"),
        (lstm("float32", time=2000), "its sequence of 2000 steps is too long to unroll"),
        (lstm("int8", cell=T("c", (BATCH, UNITS), "int16", 0.3, variable=True)), "the scale of its cell, 0.3"),
        (lstm("float32", cell=C("c", np.zeros((BATCH, UNITS), np.float32))), "its states are not marked as variable"),
    ],
)  # fmt: skip
def test_variants_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(UnsupportedOp) as error:
        load(data, {})
    assert f"UNIDIRECTIONAL_SEQUENCE_LSTM (output 'y'): {reason}" in str(error.value)


def test_a_bias_of_more_than_32_bits_is_refused() -> None:
    data = lstm("int16")
    value = next(tensor.value for tensor in read(data).main.tensors if tensor.name == "b0")
    assert value is not None
    with pytest.raises(UnsupportedOp, match="its bias 'b0' needs more than 32 bits"):
        load(data.replace(value.tobytes(), np.full(UNITS, 1 << 40).tobytes()), {})


def test_an_svdf_whose_shapes_do_not_fit_is_refused() -> None:
    with pytest.raises(UnsupportedOp, match=r"rank 4, weights \[6, 2\] and \[6, 4\] and its state do not fit"):
        load(svdf(2, "float32", claimed=4), {})


def test_a_state_may_be_a_result() -> None:
    tensors = [T("h", (1, 3), variable=True), T("y", (1, 3))]
    data = model([T("x", (1, 3))], [op("ADD", ["x", "h"], ["y"])], ["y", "h"], tensors=tensors)
    found = load(data, {})
    assert (found.output_names, [state.name for state in found.states]) == (["y", "h"], ["h"])
    unread = model([T("x", (1, 3))], [op("ABS", ["x"], ["y"])], ["y", "h"], tensors=tensors)
    assert [state.name for state in load(unread, {}).states] == ["h"]


def test_a_constant_without_elements_needs_no_buffer() -> None:
    tensors = [T("scalar", (0,), "int32"), T("y", ()), T("none", (0, 4))]
    data = model([T("x", (1,))], [op("RESHAPE", ["x", "scalar"], ["y"])], ["y", "none"], tensors=tensors)
    first, second = load(data, {}).module["main"].ret_ty.fields
    assert (tuple(first.shape), tuple(int(extent) for extent in second.shape)) == ((), (0, 4))


WAKE_WORDS = sorted(Path(pytest.importorskip("pymicro_wakeword").__file__).parent.glob("models/*.tflite"))


def test_a_wake_word_net_streams() -> None:
    """Loud noise, so that the outputs move; the nets' own features are for the integer pass's tests."""
    data = WAKE_WORDS[0].read_bytes()
    ours, theirs = Stream(data), Micro(data)
    rng = np.random.default_rng(2)
    assert len(ours.states) == 6
    for number in range(12):
        step = rng.integers(-128, 128, (1, 3, 40)).astype(np.int8)
        (got,), (want,) = ours.run([step]), theirs.run([step])
        assert abs(int(got.item()) - int(want.item())) <= 3, f"step {number}"
