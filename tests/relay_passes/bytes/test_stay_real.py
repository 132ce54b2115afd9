"""A quantize that is read back at once becomes rounding; the result that another layer adds stays bytes."""

from tvm import relax

from relay_passes.bytes.stay_real import stay_real
from relay_passes.rewrite import op_name

t = relax.transform


def dequantized(value: relax.Expr, read: int) -> relax.Expr:
    quantized = relax.op.quantize(value, relax.const(1.0, "float32"), relax.const(3, "uint8"), axis=-1, out_dtype="uint8")
    return relax.op.dequantize(quantized, relax.const(0.5, "float32"), relax.const(read, "uint8"), axis=-1, out_dtype="float32")


def after(layers: int, read: int = 3) -> list[str]:
    """The operators after the pass, of `layers` products each quantised and read back, that are then added."""
    builder = relax.BlockBuilder()
    x, w = relax.Var("x", relax.TensorType((4, 8), "float32")), relax.Var("w", relax.TensorType((8, 8), "float32"))
    with builder.function("main", [x, w]):
        with builder.dataflow():
            total = dequantized(builder.emit(relax.op.matmul(x, w)), read)
            for _ in range(layers - 1):
                earlier = builder.emit(relax.op.nn.relu(total))
                total = relax.op.add(earlier, dequantized(relax.op.matmul(x, w), read))
            result = builder.emit_output(builder.normalize(total))
        builder.emit_func_output(result)
    module = stay_real(t.CanonicalizeBindings()(builder.get()))
    (block,) = module["main"].body.blocks
    return [op_name(binding.value).removeprefix("relax.") for binding in block.bindings]


def test_what_is_read_back_at_once_is_rounded() -> None:
    assert after(layers=1) == ["matmul", "call_tir"]


def test_another_zero_point_stays_bytes() -> None:
    assert after(layers=1, read=4) == ["matmul", "quantize", "dequantize"]


def test_the_earlier_of_two_layers_that_are_added_stays_bytes() -> None:
    assert after(layers=2) == ["matmul", "quantize", "dequantize", "nn.relu", "matmul", "call_tir", "add"]
