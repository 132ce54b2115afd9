from collections.abc import Callable

import pytest
import tvm
from tvm import relax

from relay_passes.rewrite import array
from relay_passes.sink_reshapes import groups, reshape_constant, sink_reshapes
from tests.relay_passes.network import const, network, operators

op, nn = relax.op, relax.op.nn
ROWS = (6, 8)


def deep(x: relax.Expr) -> relax.Expr:
    return op.reshape(x, (2, 3, 8))


def flat(x: relax.Expr) -> relax.Expr:
    return op.reshape(x, ROWS)


def dense(x: relax.Expr) -> relax.Expr:
    return op.matmul(x, const(8, 8))


def norm(x: relax.Expr) -> relax.Expr:
    return nn.layer_norm(x, const(8), const(8), axes=[-1])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(lambda x: nn.relu(deep(x)), ["nn.relu", "reshape"], id="behind relu"),
        pytest.param(lambda x: flat(nn.relu(deep(x))), ["nn.relu"], id="and against the next one"),
        pytest.param(lambda x: flat(op.add(deep(x), const(8))), ["add"], id="behind a bias"),
        pytest.param(lambda x: flat(op.add(deep(x), const(2, 3, 8))), ["add"], id="behind a constant of all axes"),
        pytest.param(lambda x: flat(op.multiply(deep(x), deep(nn.relu(x)))), ["nn.relu", "multiply"], id="behind both operands"),
        pytest.param(lambda x: flat(norm(deep(x))), ["nn.layer_norm"], id="behind a layer norm"),
        pytest.param(lambda x: flat(nn.softmax(deep(x), axis=-1)), ["nn.softmax"], id="behind a softmax"),
    ],
)
def test_sinks(body: Callable[[relax.Expr], relax.Expr], expected: list[str]) -> None:
    assert operators(sink_reshapes(network(body, ROWS))) == expected


def test_a_residual_gets_a_view_so_that_the_layer_can_absorb_it() -> None:
    module = sink_reshapes(network(lambda x, residual: dense(flat(norm(op.add(deep(dense(x)), residual)))), ROWS, (2, 3, 8)))
    assert operators(module) == ["matmul", "reshape", "add", "nn.layer_norm", "matmul"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda x, y: op.add(deep(x), y), id="no layer on either side"),
        pytest.param(lambda x, y: op.add(deep(dense(x)), op.exp(op.matmul(y, const(8, 8)))), id="a layer on both sides"),
        pytest.param(lambda x, y: op.add(op.reshape(x, (3, 2, 8)), const(3, 1, 8)), id="a constant that a merged axis cannot hold"),
        pytest.param(lambda x, y: nn.softmax(deep(x), axis=1), id="softmax over another axis"),
        pytest.param(lambda x, y: nn.softmax(op.reshape(x, (6, 2, 4)), axis=-1), id="softmax over a part of the axis"),
        pytest.param(lambda x, y: op.matmul(deep(x), const(8, 4)), id="before a layer"),
    ],
)
def test_left_alone(body: Callable[..., relax.Expr]) -> None:
    before = network(body, ROWS, (2, 3, 8))
    tvm.ir.assert_structural_equal(sink_reshapes(before), before)


def test_groups_hold_the_same_elements() -> None:
    assert groups([4, 6, 5], [24, 5]) == [([0, 1], [0]), ([2], [1])]
    assert groups([1, 8], [2, 2, 2]) == [([0, 1], [0, 1, 2])]
    assert groups([3, 1, 1], [3]) == [([0], [0]), ([1], []), ([2], [])]


@pytest.mark.parametrize(
    ("shown", "hidden", "constant", "expected"),
    [
        ((2, 3, 8), (6, 8), (8,), (1, 8)),
        ((2, 3, 8), (6, 8), (2, 3, 1), (6, 1)),
        ((2, 3, 8), (6, 8), (1, 1, 1), ()),
        ((2, 3, 8), (6, 8), (3, 8), None),
        ((1, 5, 9), (1, 5, 1, 9), (5, 1), (1, 5, 1, 1)),
    ],
)
def test_constants_broadcast_as_before(
    shown: tuple[int, ...], hidden: tuple[int, ...], constant: tuple[int, ...], expected: tuple[int, ...] | None
) -> None:
    value = array(const(*constant))
    assert value is not None
    result = reshape_constant(value, shown, hidden)
    assert (None if result is None else result.shape) == expected
