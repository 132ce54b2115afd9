"""What a streaming network keeps, in the struct of its C project."""

from pathlib import Path

import numpy as np

import stack
from tests.frontends.tflite.build import C, Micro, T, graph, model, op
from tests.host_model import HostModel


def delay_line() -> bytes:
    """y = a + b, then b = a and a = x: each of two variables, int8 [1, 4], is written when the other has yet to be read."""
    meaning = {"scale": 0.1, "zero_point": 0}
    handles = [T("ha", (), "resource"), T("hb", (), "resource")]
    named = [op("VAR_HANDLE", [], ["ha"], shared_name="a"), op("VAR_HANDLE", [], ["hb"], shared_name="b")]
    writes = [op("ASSIGN_VARIABLE", ["ha", "zero"], []), op("ASSIGN_VARIABLE", ["hb", "zero"], [])]
    start = graph([], [*named, *writes], [], tensors=handles, constants=[C("zero", np.zeros((1, 4), "int8"), **meaning)])
    return model(
        inputs=[T("x", (1, 4), "int8", **meaning)],
        ops=[
            *named,
            op("CALL_ONCE", [], [], init_subgraph_index=1),
            op("READ_VARIABLE", ["ha"], ["a"]),
            op("READ_VARIABLE", ["hb"], ["b"]),
            op("ADD", ["a", "b"], ["y"]),
            op("ASSIGN_VARIABLE", ["ha", "x"], []),
            op("ASSIGN_VARIABLE", ["hb", "a"], []),
        ],
        outputs=["y"],
        tensors=[*handles, *[T(name, (1, 4), "int8", **meaning) for name in "aby"]],
        subgraphs=[start],
    )


def test_a_state_goes_on_to_another_before_it_is_overwritten(tmp_path: Path) -> None:
    data = delay_line()
    run, interpreter = HostModel(stack.compile(data, "cortex-m4"), tmp_path), Micro(data)
    for step in range(5):
        x = np.full((1, 4), 1 + step * step, "int8")
        np.testing.assert_array_equal(run(x)[0], interpreter.run([x])[0])


def sums_in_a_row(count: int, size: int) -> bytes:
    """`count` variables, int8 [1, size], to each of which x is added; y is the sum of their means."""
    meaning = {"scale": 0.1, "zero_point": 0}
    names = [f"v{index}" for index in range(count)]
    handles = [op("VAR_HANDLE", [], [f"h{name}"], shared_name=name) for name in names]
    tensors = [T(f"h{name}", (), "resource") for name in names]
    start = graph(
        inputs=[],
        ops=[*handles, *[op("ASSIGN_VARIABLE", [f"h{name}", "zero"], []) for name in names]],
        outputs=[],
        tensors=list(tensors),
        constants=[C("zero", np.zeros((1, size), "int8"), **meaning)],
    )
    ops = [*handles, op("CALL_ONCE", [], [], init_subgraph_index=1)]
    for index, name in enumerate(names):
        tensors += [T(name, (1, size), "int8", **meaning), T(f"next {name}", (1, size), "int8", **meaning)]
        tensors += [T(f"{kind}{index}", (1, 1), "int8", **meaning) for kind in ("mean", "sum")]
        ops += [
            op("READ_VARIABLE", [f"h{name}"], [name]),
            op("ADD", [name, "x"], [f"next {name}"]),
            op("ASSIGN_VARIABLE", [f"h{name}", f"next {name}"], []),
            op("MEAN", [f"next {name}", "axes"], [f"mean{index}"], keep_dims=True),
            op("ADD", [f"mean{index}", f"sum{index - 1}" if index else "mean0"], [f"sum{index}"]),
        ]
    constants = [C("axes", np.array([1], "int32"))]
    x = T("x", (1, size), "int8", **meaning)
    return model(inputs=[x], ops=ops, outputs=[f"sum{count - 1}"], tensors=tensors, constants=constants, subgraphs=[start])


def test_a_next_state_leaves_the_arena_as_soon_as_it_is_held(tmp_path: Path) -> None:
    data, size = sums_in_a_row(4, 200), 200
    library, interpreter = stack.compile(data, "cortex-m4"), Micro(data)
    assert library.manifest["arena_bytes"] < 3 * size  # x and one sum, not four
    run = HostModel(library, tmp_path)
    for step in range(4):
        x = np.random.default_rng(step).integers(-40, 40, (1, size), "int8")
        np.testing.assert_array_equal(run(x)[0], interpreter.run([x])[0])
