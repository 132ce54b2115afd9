import numpy as np
import tvm
from tvm import relax, tirx

from relay_passes.lower_matmul import lower_matmul
from schedules.machine import Machine

MACHINE = Machine(vector_bytes=32, vector_registers=16)


def legalised(shape: tuple[int, ...], *weights: np.ndarray | tuple[int, ...]) -> tvm.IRModule:
    """matmul of x with each of the weights: an array is a constant, a shape a second input."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    inputs = [relax.Var(f"w{i}", relax.TensorType(w, "float32")) for i, w in enumerate(weights) if isinstance(w, tuple)]
    with builder.function("main", [x, *inputs]):
        others = iter(inputs)
        results = [builder.emit(relax.op.matmul(x, next(others) if isinstance(w, tuple) else relax.const(w))) for w in weights]
        builder.emit_func_output(relax.Tuple(results))
    return relax.transform.LegalizeOps({"relax.matmul": lower_matmul(MACHINE)})(builder.get())


def programs(module: tvm.IRModule) -> list[str]:
    return [name.name_hint for name, function in module.functions.items() if isinstance(function, tirx.PrimFunc)]


def test_constant_weights_are_left_to_the_rule_to_pack() -> None:
    module = legalised((4, 8), np.ones((8, 20), np.float32))
    assert programs(module) == ["packed_matmul"]
    (binding,) = module["main"].body.blocks[0].bindings[:1]
    assert tuple(int(extent) for extent in binding.value.args[1][1].ty.shape) == (8, 20)


def test_products_of_equal_shapes_share_a_program() -> None:
    assert len(programs(legalised((4, 8), np.ones((8, 20), np.float32), np.zeros((8, 20), np.float32)))) == 1


def test_several_leading_axes_are_laid_in_one() -> None:
    module = legalised((2, 3, 8), np.ones((8, 5), np.float32))
    assert tuple(int(extent) for extent in module["main"].body.blocks[0].bindings[0].value.ty.shape) == (6, 8)
    assert tuple(int(extent) for extent in module["main"].ret_ty.fields[0].shape) == (2, 3, 5)


def test_two_activations_that_vectors_divide_are_left_to_tvm() -> None:
    assert programs(legalised((2, 4, 8), (2, 8, 16))) == ["matmul"]


def test_two_activations_that_no_vector_divides_are_packed() -> None:
    assert programs(legalised((2, 4, 8), (2, 8, 9))) == ["batch_matmul"]
