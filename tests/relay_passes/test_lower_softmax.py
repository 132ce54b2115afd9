import tvm
from tvm import relax, tirx

from relay_passes.lower_softmax import lower_softmax


def legalised(shape: tuple[int, ...], dtype: str) -> list[tirx.PrimFunc]:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, dtype))
    with builder.function("main", [x]):
        first = builder.emit(relax.op.nn.softmax(x, axis=-1))
        builder.emit_func_output(builder.emit(relax.op.nn.softmax(first, axis=-1)))
    module: tvm.IRModule = relax.transform.LegalizeOps({"relax.nn.softmax": lower_softmax})(builder.get())
    return [function for function in module.functions.values() if isinstance(function, tirx.PrimFunc)]


def test_the_division_is_one_a_row_and_equal_shapes_share_a_program() -> None:
    (function,) = legalised((4, 10), "float32")
    (division,) = [line for line in function.script().splitlines() if "/" in line]
    assert division.strip() == "softmax_inverse[v_i0] = T.float32(1.0) / softmax_sum[v_i0]"


def test_other_types_are_left_to_tvm() -> None:
    (function,) = legalised((4, 10), "float64")
    assert "softmax_inverse" not in function.script()
