"""Activations whose limits the bytes of a result set by themselves are left out, and only those."""

import pytest
import tvm
from tvm import relax
from tvm.ir import make_node

from relay_passes.bytes.lower_bytes import lower_bytes
from relay_passes.bytes.sums import REAL_SUM
from relay_passes.choices import Choices
from relay_passes.rewrite import op_name
from schedules.machine import Machine

VNNI = Machine(vector_bytes=64, vector_registers=32, int8_dot=True)


def after(zero: int, low: float = 0.0, high: float | None = None, read_again: bool = False) -> list[str]:
    """The operators after the pass, of a sum of reals that is limited and then quantised. Many results lie halfway between two bytes, so
    that the sum stays one of reals."""
    builder = relax.BlockBuilder()
    a, b = (relax.Var(name, relax.TensorType((2, 8), "uint8")) for name in "ab")

    def real(x: relax.Expr, scale: float) -> relax.Expr:
        return builder.emit(relax.op.dequantize(x, relax.const(scale, "float32"), relax.const(3, "uint8"), out_dtype="float32"))

    with builder.function("main", [a, b]):
        with builder.dataflow():
            add = relax.op.add(real(a, 0.025), real(b, 0.025))
            total = builder.emit(relax.Call(add.op, add.args, make_node("ir.DictAttrs", **{REAL_SUM: True})))
            limit = relax.op.nn.relu(total) if high is None else relax.op.clip(total, low, high)
            limited = builder.emit(limit)
            made = relax.op.quantize(limited, relax.const(0.05, "float32"), relax.const(zero, "uint8"), out_dtype="uint8")
            results = [builder.emit(made), limited] if read_again else [builder.emit(made)]
            output = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(output)
    module = lower_bytes(VNNI, Choices())(builder.get())
    assert isinstance(module, tvm.IRModule)
    (block,) = module["main"].body.blocks
    return [op_name(binding.value).removeprefix("relax.") for binding in block.bindings]


def test_a_relu_at_the_least_byte_is_left_out() -> None:
    assert after(zero=0) == ["dequantize", "dequantize", "call_tir", "call_tir", "add", "quantize", ""]


@pytest.mark.parametrize("high", [12.76, 100.0])
def test_a_clip_around_all_bytes_is_left_out(high: float) -> None:
    assert "clip" not in after(zero=0, high=high)


def test_a_limit_among_the_bytes_stays() -> None:
    assert "nn.relu" in after(zero=1)
    assert "clip" in after(zero=0, high=6.0)
    assert "clip" in after(zero=0, low=1.0, high=100.0)


def test_what_something_else_reads_stays() -> None:
    assert "nn.relu" in after(zero=0, read_again=True)
