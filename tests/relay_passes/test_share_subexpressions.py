import tvm
from tvm import relax

from relay_passes.share_subexpressions import share_subexpressions
from tests.relay_passes.network import const, network, operators

op, nn = relax.op, relax.op.nn


def test_equal_calls_become_one() -> None:
    module = network(lambda x: op.add(nn.relu(op.add(x, const(4))), nn.relu(op.add(x, const(4)))), (2, 4))
    assert operators(share_subexpressions(module)) == ["add", "nn.relu", "add"]


def test_a_large_constant_is_known_by_its_object() -> None:
    weight = const(64, 64)
    module = network(lambda x: op.add(op.matmul(x, weight), op.matmul(x, weight)), (2, 64))
    assert operators(share_subexpressions(module)) == ["matmul", "add"]


def test_left_alone_where_an_attribute_a_constant_or_the_order_differs() -> None:
    def body(x: relax.Var) -> relax.Expr:
        softmaxes = op.add(nn.softmax(x, axis=0), nn.softmax(x, axis=1))
        biases = op.add(op.add(x, const(4, seed=1)), op.add(x, const(4, seed=2)))
        return op.add(op.subtract(softmaxes, biases), op.subtract(biases, softmaxes))

    before = share_subexpressions(network(body, (2, 4)))
    assert len(operators(before)) == 9
    tvm.ir.assert_structural_equal(share_subexpressions(before), before)
