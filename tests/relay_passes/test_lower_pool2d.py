from collections.abc import Callable

import numpy as np
import pytest
from tvm import relax

from relay_passes.lower_pool2d import lower_avg_pool2d, lower_max_pool2d
from tests.relay_passes.network import network, operators, random_inputs, run

op, nn = relax.op, relax.op.nn
IMAGE = (2, 3, 7, 6)
LOWERINGS = {"relax.nn.max_pool2d": lower_max_pool2d, "relax.nn.avg_pool2d": lower_avg_pool2d}


def programs(body: Callable[[relax.Expr], relax.Expr], *shape: int) -> list[str]:
    """The programs that `body` becomes, which must compute what the operator does."""
    before = network(body, shape)
    lowered = relax.transform.LegalizeOps(LOWERINGS, enable_warning=False)(before)
    inputs = random_inputs(before)
    for new, old in zip(run(lowered, inputs), run(before, inputs), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-6)
    return operators(lowered)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda x: nn.max_pool2d(x, (3, 3), padding=1), id="maximum"),
        pytest.param(lambda x: nn.max_pool2d(x, (3, 2), (2, 3), (2, 0, 0, 1), (1, 2)), id="unequal axes, dilated"),
        pytest.param(lambda x: nn.max_pool2d(x, (3, 3), (3, 3), (1, 1), ceil_mode=True), id="rounded up"),
        pytest.param(lambda x: nn.avg_pool2d(x, (3, 3), (2, 2), (1, 1), count_include_pad=True), id="average"),
    ],
)
def test_border_becomes_a_copy(body: Callable[[relax.Expr], relax.Expr]) -> None:
    first, _second = programs(body, *IMAGE)
    assert first == "pad"


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        pytest.param(lambda x: nn.max_pool2d(x, (3, 3)), IMAGE, id="no border"),
        pytest.param(lambda x: nn.avg_pool2d(x, (3, 3), padding=1), IMAGE, id="average that does not count its border"),
        pytest.param(lambda x: nn.max_pool2d(x, (3, 3), padding=1, layout="NCHW4c"), (1, 2, 5, 5, 4), id="blocks of channels"),
    ],
)
def test_stays_one_program(body: Callable[[relax.Expr], relax.Expr], shape: tuple[int, ...]) -> None:
    assert len(programs(body, *shape)) == 1
