"""Runners that build candidates and measure them: `open_runner(target)` for this machine or a microcontroller, or over a Dask cluster."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # processes that measure import this folder, and must not load TVM
    from stack.measure.open import open_runner as open_runner

__all__ = ["open_runner"]


def __getattr__(name: str) -> object:
    if name == "open_runner":
        from stack.measure.open import open_runner

        return open_runner
    raise AttributeError(f"module 'stack.measure' has no attribute '{name}'")
