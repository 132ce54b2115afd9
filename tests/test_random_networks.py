"""A few random networks on every run of the tests; `python -m tests.compare_networks FIRST COUNT` compares as many as one likes."""

import pytest

from targets.registry import find
from targets.x86.detect import cpu_flags
from tests.compare_networks import LIMIT, compare
from tests.random_networks import random_network

TARGETS = [name for name in ("x86-avx2", "x86-avx512") if cpu_flags().issuperset(find(name).features)]


@pytest.mark.parametrize("seed", range(1000, 1010))
def test_a_random_network_computes_what_onnx_runtime_does(seed: int) -> None:
    pytest.importorskip("onnxruntime")
    assert compare(seed, TARGETS[seed % len(TARGETS)], threads=2) < LIMIT


def test_a_seed_always_gives_the_same_network() -> None:
    assert random_network(7) == random_network(7)
    assert random_network(7) != random_network(8)
