from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.widen_half import widen_half
from tests.relay_passes.network import network, operators, random_inputs, run

op, nn = relax.op, relax.op.nn
HALF = ((2, 8), "float16")


def half(*shape: int) -> relax.Expr:
    return relax.const(np.random.default_rng(0).uniform(-1, 1, shape).astype("float16"), "float16")


def types(module: tvm.IRModule) -> list[str]:
    return [str(binding.value.ty.dtype.dtype) for block in module["main"].body.blocks for binding in block.bindings]


def test_casts_stand_at_inputs_and_outputs_only() -> None:
    before = network(lambda x: nn.relu(op.add(op.matmul(x, half(8, 4)), half(4))), HALF)
    after = relax.transform.CanonicalizeBindings()(widen_half(before))
    assert operators(after) == ["astype", "matmul", "add", "nn.relu", "astype"]
    assert types(after) == ["float32"] * 4 + ["float16"]
    inputs = random_inputs(before)
    (new,), (old,) = run(after, inputs), run(before, inputs)
    np.testing.assert_allclose(new, old, rtol=5e-3, atol=5e-3)


def test_sums_keep_all_their_bits() -> None:
    module = widen_half(network(lambda x: op.sum(x, axis=[1]), ((1, 4096), "float16")))
    (result,) = run(module, [np.ones((1, 4096), "float16") + np.float16(2**-10)])
    assert result == np.float16(4100)


def test_several_results_keep_their_types() -> None:
    before = network(lambda x, y: relax.Tuple([nn.relu(x), op.exp(y), op.astype(x, "float32")]), HALF, (2, 8))
    after = widen_half(before)
    assert [str(result.dtype) for result in run(after, random_inputs(before))] == ["float16", "float32", "float32"]


def test_a_second_run_changes_nothing() -> None:
    once = widen_half(network(lambda x: op.exp(nn.relu(x)), HALF))
    tvm.ir.assert_structural_equal(widen_half(once), once)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        pytest.param(lambda x: nn.relu(x), "float32", id="float32"),
        pytest.param(lambda x: op.astype(x, "float16"), "float32", id="a cast alone"),
        pytest.param(lambda x: op.matmul(x, op.permute_dims(x), out_dtype="float16"), "float16", id="an operator that names the type"),
    ],
)
def test_left_alone(body: Callable[[relax.Expr], relax.Expr], kind: str) -> None:
    before = network(body, ((2, 8), kind))
    tvm.ir.assert_structural_equal(widen_half(before), before)
