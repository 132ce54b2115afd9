"""What a user can get wrong, and how we say it: what happened, where, and what to do next.

    error: no target is called 'x68'
      hint: did you mean 'x86'?

Mistakes of ours are never a StackError; they keep their own type and traceback. This file imports nothing, so any layer may use it.
"""


class StackError(Exception):
    """One problem a user can fix.

    `what` is one sentence; `at` names the file, node, flag or input; `hint` is the next thing to try.
    """

    def __init__(self, what: str, *, at: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what, self.at, self.hint = what, at, hint

    def __str__(self) -> str:
        block = f"error: {self.what}"
        if self.at:
            block += f"\n  at: {self.at}"
        if self.hint:
            block += f"\n  hint: {self.hint}"
        return block


class BadModel(StackError):
    """The file is no model we can read, or its shapes are not known."""


class UnsupportedOp(StackError):
    """The model uses operators that we cannot lower."""


class UnknownTarget(StackError):
    """No target has that name."""


class DoesNotFit(StackError):
    """The model needs more memory than the board has."""


class BadInput(StackError):
    """An array given to `run` has the wrong name, shape or dtype."""


class BadLibrary(StackError):
    """A saved library is damaged, from another version, or for another machine."""


class ToolMissing(StackError):
    """A compiler or linker that emission needs is not installed."""
