import numpy as np
import pytest
from tvm import relax

from relay_passes.fold_remaining import fold_remaining, may_fold, values
from tests.relay_passes.network import const, network, operators

op, nn = relax.op, relax.op.nn


def test_a_call_on_constants_that_the_table_lacks_is_computed() -> None:
    module = network(lambda x: op.add(x, op.tril(const(4, 4))), (4, 4))
    folded = fold_remaining(module)
    assert operators(module) == ["tril", "add"]
    assert operators(folded) == ["add"]
    (value,) = values(folded["main"])
    np.testing.assert_array_equal(value.args[1].value.numpy(), np.tril(const(4, 4).value.numpy()))


def test_a_legalised_call_on_constants_is_computed() -> None:
    module = relax.transform.LegalizeOps()(network(lambda x: op.add(x, op.tril(const(4, 4))), (4, 4)))
    assert len(operators(module)) == 2
    assert len(operators(fold_remaining(module))) == 1


@pytest.mark.parametrize("legal", [False, True])
def test_a_network_without_such_calls_is_the_same_object(legal: bool) -> None:
    module = network(lambda x: nn.relu(op.add(x, const(4))), (2, 4))
    module = relax.transform.LegalizeOps()(module) if legal else module
    assert fold_remaining(module).same_as(module)


def test_what_makes_a_tensor_of_nothing_counts_as_known() -> None:
    module = network(lambda x: op.add(x, op.zeros((4,), "float32")), (2, 4))
    assert [may_fold(value) for value in values(module["main"])] == [True, False]
