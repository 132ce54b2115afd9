"""The runner for a target: where its candidates are measured, and how."""

from schedules.tuning.measurement import Runner
from stack.errors import StackError
from targets.registry import family_of, find


def open_runner(target: str, threads: int = 1, dask: str = "") -> Runner:
    """What measures candidates for `target`; `threads` is how many cores one of them computes with.

    StackError where nothing here can measure it.
    """
    machine = find(target)
    container = family_of(machine).container
    if container == "native":
        from stack.measure.local import LocalRunner

        return LocalRunner(machine, threads)
    raise StackError(f"nothing measures candidates for '{machine.name}' yet")
