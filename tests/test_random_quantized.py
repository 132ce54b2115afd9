"""A few random quantised networks on every run; `python -m tests.compare_quantized FIRST COUNT` compares as many as one likes."""

import pytest

from tests.compare_quantized import CORES, compare
from tests.random_quantized import random_quantized


@pytest.mark.parametrize("seed", range(12))
def test_the_c_of_a_random_network_computes_what_tflite_micro_does(seed: int) -> None:
    network = random_quantized(seed)
    assert compare(network.data, network.inputs, seed, [CORES[seed % len(CORES)]]) > 1


def test_a_seed_always_gives_the_same_network() -> None:
    assert random_quantized(7).data == random_quantized(7).data
    assert random_quantized(7).data != random_quantized(8).data
