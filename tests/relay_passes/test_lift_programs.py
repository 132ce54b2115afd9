from collections.abc import Callable
from typing import Any

import pytest
import tvm
from tvm import relax, te, topi

from relay_passes.lift_programs import lift_programs
from tests.relay_passes.network import operators

SHAPE = (1, 2, 5)


def written_out(make: Callable[..., Any], *inputs: tuple[int, ...]) -> tvm.IRModule:
    """A module that calls the program TVM generates for `make`."""
    builder = relax.BlockBuilder()
    params = [relax.Var(f"x{index}", relax.TensorType(shape, "float32")) for index, shape in enumerate(inputs)]
    with builder.function("main", params):
        with builder.dataflow():
            result = builder.emit_output(builder.call_te(make, *params, primfunc_name_hint="program"))
        builder.emit_func_output(result)
    return builder.finalize()


def reversed_maximum(x: te.Tensor, y: te.Tensor) -> te.Tensor:
    return te.compute(SHAPE, lambda i, j, k: tvm.tirx.max(x[i, j, 4 - k], y[i, j, k]))


@pytest.mark.parametrize(
    ("make", "inputs", "expected"),
    [
        pytest.param(topi.maximum, [SHAPE, SHAPE], "maximum", id="maximum"),
        pytest.param(topi.minimum, [SHAPE, ()], "minimum", id="minimum with a scalar"),
        pytest.param(lambda x: topi.nn.pad(x, [0, 1, 2], [0, 0, 3], 0.5), [SHAPE], "nn.pad", id="pad"),
    ],
)
def test_lifts(make: Callable[..., Any], inputs: list[tuple[int, ...]], expected: str) -> None:
    assert operators(lift_programs(written_out(make, *inputs))) == [expected]


def test_the_pad_is_the_one_that_was_written_out() -> None:
    module = lift_programs(written_out(lambda x: topi.nn.pad(x, [0, 1, 2], [0, 0, 3], 0.5), SHAPE))
    (binding,) = module["main"].body.blocks[0].bindings
    assert [int(width) for width in binding.value.attrs.pad_width] == [0, 0, 1, 0, 2, 3]
    assert float(binding.value.attrs.pad_value) == 0.5


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        pytest.param(reversed_maximum, [SHAPE, SHAPE], id="one side reversed"),
        pytest.param(topi.add, [SHAPE, SHAPE], id="another operator"),
        pytest.param(lambda x: topi.nn.mirror_pad(x, [0, 0, 1], [0, 0, 1]), [SHAPE], id="a mirror"),
        pytest.param(lambda x: topi.sum(x, axis=1), [SHAPE], id="a reduction"),
        pytest.param(lambda x: topi.nn.softmax(x), [SHAPE], id="several stages"),
    ],
)
def test_left_alone(make: Callable[..., Any], inputs: list[tuple[int, ...]]) -> None:
    before = written_out(make, *inputs)
    tvm.ir.assert_structural_equal(lift_programs(before), before)
