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
