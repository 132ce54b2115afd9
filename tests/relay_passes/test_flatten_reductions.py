import numpy as np
import pytest
from tvm import relax

from relay_passes.flatten_reductions import flatten_reductions
from tests.relay_passes.network import network, operators, random_inputs, run


@pytest.mark.parametrize(("axes", "keep"), [([1, 2], False), ([-2, -1], True), (None, False)])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min"])
def test_innermost_axes_become_one(name: str, axes: list[int] | None, keep: bool) -> None:
    module = network(lambda x: getattr(relax.op, name)(x, axis=axes, keepdims=keep), (2, 3, 5))
    flat = flatten_reductions(module)
    assert operators(flat) == ["reshape", name, "reshape"]
    inputs = random_inputs(module)
    assert np.allclose(run(flat, inputs)[0], run(module, inputs)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("axes", "shape"), [([0, 1], (2, 3, 5)), ([0, 2], (2, 3, 5)), ([2], (2, 3, 5)), ([1, 2], (2, 3, 1))])
def test_other_axes_stay(axes: list[int], shape: tuple[int, ...]) -> None:
    module = network(lambda x: relax.op.sum(x, axis=axes), shape)
    assert operators(flatten_reductions(module)) == ["sum"]
