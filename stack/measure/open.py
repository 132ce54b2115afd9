"""The runner for a target: where its candidates are measured, and how."""

from schedules.tuning.measurement import Runner
from stack.errors import StackError
from targets.registry import family_of, find


def open_runner(target: str, threads: int = 1, dask: str = "", port: str = "") -> Runner:
    """What measures candidates for `target`; `threads` is how many cores one of them computes with, `port` the serial port of the board
    that `target` is, `dask` the address of a cluster's scheduler.

    StackError where nothing here can measure it.
    """
    if port:
        from stack.measure.board import BoardRunner

        return BoardRunner(find(target), port)
    if dask:
        from stack.measure.dask import DaskRunner

        return DaskRunner(target, threads, dask)
    machine = find(target)
    container = family_of(machine).container
    if container == "native":
        from stack.measure.local import LocalRunner

        return LocalRunner(machine, threads)
    if container == "c":
        from stack.measure.cortex_m import CortexMRunner

        return CortexMRunner(machine)
    raise StackError(f"nothing measures candidates for '{machine.name}' yet")
