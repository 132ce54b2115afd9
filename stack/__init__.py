"""From a trained model to a library: `stack.compile(model, target)`, `stack.load(folder)`; `stack.tune(model)` makes it faster."""

from typing import TYPE_CHECKING

from stack.errors import StackError

if TYPE_CHECKING:
    from stack.compiler import compile as compile
    from stack.library import Library as Library
    from stack.library import load as load
    from stack.tuning.tune import TuneResult as TuneResult
    from stack.tuning.tune import tune as tune

__version__ = "0.1.0"
__all__ = ["Library", "StackError", "TuneResult", "compile", "load", "tune"]


def __getattr__(name: str) -> object:
    """Import on first use: TVM takes seconds to load, and neither `stackc --help` nor running a library needs it."""
    if name == "compile":
        from stack.compiler import compile

        return compile
    if name in ("TuneResult", "tune"):
        from stack.tuning.tune import TuneResult, tune

        return {"TuneResult": TuneResult, "tune": tune}[name]
    if name in ("Library", "load"):
        from stack import library

        return getattr(library, name)
    raise AttributeError(f"module 'stack' has no attribute '{name}'")
