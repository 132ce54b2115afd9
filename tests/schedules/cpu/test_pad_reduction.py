import numpy as np
import pytest
from tvm import topi

from schedules.cpu.pad_reduction import pad_reduction
from tests.schedules.cpu.programs import MACHINES, aligned, floats, program, run


@pytest.mark.parametrize(("ours", "numpys"), [(topi.sum, np.sum), (topi.max, np.max)], ids=["sum", "max"])
def test_what_is_added_changes_nothing(ours: object, numpys: object) -> None:
    x = floats(3, 13) - 10  # all below zero, so that a zero would show in the maximum
    function = pad_reduction(program(lambda x: ours(x, 1), x), "x0_red", 8)
    assert "T.int64(16)" in function.script()
    y = aligned((3,), "float32")
    run(function, MACHINES[-1], x, y)
    assert np.allclose(y, numpys(x, axis=1), rtol=1e-6)
