"""What runs a compiled library. Each family has a module `runner` with `open_runner(folder, manifest, threads) -> Runner`.

A runner checks that this machine can run the library, and computes from arrays that `stack.library` has already checked: dense, of the
right shape and dtype. It imports what the library needs at run time and nothing else: the x86 one needs no TVM.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Runner(Protocol):
    """One opened library. Several threads may call `run` at once. `unit` is what `profile` counts in: seconds, instructions or cycles."""

    unit: str

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Compute `outputs` in place from `inputs`, both in the manifest's order."""

    def profile(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> list[float]:
        """As `run`; how many units were spent in each of the manifest's operators."""

    def close(self) -> None:
        """Free everything; no call may be running. Harmless when repeated."""
