"""What this machine can do at best: float32 operations a second, and bytes a second for working sets of several sizes.

    limits = measure(threads=1)
    limits.seconds(flops=173394000, bytes=1149184)     # no operator of that size can be quicker

Peak is what numpy's BLAS reaches on a large matrix product. Bandwidth is what copies reach, for data that fits in the second-level
cache, in the last-level cache, and in neither; an operator is held to the bandwidth of its own size, so the bound assumes that what
fits in a cache is there. Both are measured and not read from a datasheet, so a fraction slightly above one can occur.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

SIZES = (256 << 10, 4 << 20, 128 << 20)  # bytes that a copy reads and writes together
MATRIX = 1024


@dataclass(frozen=True)
class Limits:
    """`bandwidths` are (bytes of the working set, bytes a second), smallest first."""

    flops: float
    bandwidths: Sequence[tuple[int, float]]

    def seconds(self, flops: float, bytes: float) -> float:
        """The least time for that much work (Williams, Waterman and Patterson 2009)."""
        bandwidth = next((speed for size, speed in self.bandwidths if bytes <= size), self.bandwidths[-1][1])
        return max(flops / self.flops, bytes / bandwidth)


@cache
def measure(threads: int) -> Limits:
    """Measure, once, in a process of its own: BLAS reads its thread count once, when numpy is first imported."""
    counts = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))
    command = [sys.executable, "-m", "stack.roofline", str(threads)]
    done = subprocess.run(command, env={**os.environ, **counts}, check=True, stdout=subprocess.PIPE, text=True)
    flops, bandwidths = json.loads(done.stdout)
    return Limits(flops, [(size, speed) for size, speed in bandwidths])


def best_seconds(work: Callable[[], object], budget: float = 0.1) -> float:
    """The shortest of as many runs as fit into `budget` seconds, and at least three."""
    times: list[float] = []
    while len(times) < 3 or sum(times) < budget:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def peak_flops() -> float:
    a, b = (np.random.default_rng(seed).standard_normal((MATRIX, MATRIX), np.float32) for seed in (0, 1))
    out = np.empty_like(a)
    return float(2 * MATRIX**3 / best_seconds(lambda: np.matmul(a, b, out=out)))


def bandwidth(size: int, threads: int, pool: ThreadPoolExecutor) -> float:
    """Bytes read and written a second, each thread copying its own share of the working set again and again."""
    share = size // 2 // threads
    pairs = [(np.ones(share, np.uint8), np.zeros(share, np.uint8)) for _ in range(threads)]
    again = max(1, (8 << 20) // size)  # enough per measurement that starting the threads does not count

    def copy(pair: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(again):
            np.copyto(pair[1], pair[0])

    return 2 * share * threads * again / best_seconds(lambda: list(pool.map(copy, pairs)), 0.05)


def main(threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        bandwidths = [(size, bandwidth(size, threads, pool)) for size in SIZES]
    json.dump([peak_flops(), bandwidths], sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))
