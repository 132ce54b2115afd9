"""What a program calls is noted once, and holds for what its loops are unrolled to."""

import tvm
from tvm import tirx
from tvm.script import tirx as T

from stack.emit.calls import calls, note_calls


@T.prim_func
def both(x: T.Buffer((4,), "float32")):
    for i in T.unroll(4):
        x[i] = T.exp(x[i]) + T.call_pure_extern("float32", "stack_bf16_dot", x[i])


def test_names_of_own_and_of_external_functions():
    assert {"exp", "stack_bf16_dot"} <= calls(both)
    assert "sigmoid" not in calls(both)


def test_what_was_noted_is_not_looked_for_again():
    noted = note_calls(tvm.IRModule({"main": both}))["main"]
    assert calls(noted) == calls(both)
    assert calls(noted.with_body(tirx.Evaluate(tirx.const(0, "int32")))) == calls(both)
