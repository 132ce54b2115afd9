import tvm
from tvm import tirx

from stack.emit.stack_buffers import LIMIT, stack_buffers


def kept(shape: list[int], dtype: str) -> bool:
    buffer = tirx.decl_buffer(shape, dtype, scope="local")
    module = stack_buffers(tvm.IRModule({"main": tirx.PrimFunc([], tirx.AllocBuffer(buffer))}))
    return "disable_lower_builtin" in module["main"].body.annotations


def test_accumulators_stay_on_the_stack() -> None:
    assert kept([28], "float32x16")


def test_what_is_large_stays_in_the_workspace() -> None:
    assert kept([LIMIT // 4], "float32")
    assert not kept([LIMIT // 4 + 1], "float32")
