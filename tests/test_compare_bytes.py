"""A few random quantised networks on every run; `python -m tests.compare_bytes FIRST COUNT` compares as many as one likes."""

import pytest

from tests.compare_bytes import MOST_DIFFERENT, MOST_STEPS, compare

pytest.importorskip("onnxruntime")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))
def test_a_random_quantised_network_is_onnx_runtimes(seed: int) -> None:
    steps, share = compare(seed, "x86")
    assert steps <= MOST_STEPS + 0.01
    assert share <= MOST_DIFFERENT
