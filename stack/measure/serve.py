"""The child's side of a process that serves requests: some come over a pipe, their answers go back, and the next ones may come.

    def main(connection): serve(connection, start)     # in a module that Pool names

The first message says what to work with and how much of it. A request that takes too long is ended by the system (SIGXCPU), one that takes
too much memory gets none. Imports the standard library only, so that a process that does without TVM is there again at once.
"""

import math
import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What one request may take: seconds of CPU, and bytes of address space of the whole process. `cores` it keeps to, at this niceness."""

    seconds: float
    memory: int
    cores: tuple[int, ...] = ()
    nice: int = 0


@dataclass(frozen=True)
class Answer:
    """What came of a request: `value`, or where `failure` is not empty why there is none."""

    value: Any = None
    failure: str = ""
    detail: str = ""


READY = Answer("ready")  # what a process says once, when it can serve


class Refused(Exception):
    """What a handler raises where a request fails in a way that has a name: Refused("wrong result", "...")."""

    def __init__(self, failure: str, detail: str) -> None:
        super().__init__(failure, detail)
        self.failure, self.detail = failure, detail


Handler = Callable[[Sequence[Any]], list[Answer]]


def serve(connection: Connection, start: Callable[[Any], Handler]) -> None:
    """Answer requests by what `start` makes of the first message, until the other side is gone."""
    try:
        limits, configuration = connection.recv()
        confine(limits)
        handle = start(configuration)
        connection.send(READY)
        while True:
            requests = connection.recv()
            allow(limits.seconds * len(requests))
            connection.send(handle(requests))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)


def one_by_one(handle: Callable[[Any], Any], otherwise: str) -> Handler:
    """Each request by itself; `otherwise` is what an exception means."""
    return lambda requests: [answer(handle, request, otherwise) for request in requests]


def confine(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = limits.memory if hard == resource.RLIM_INFINITY else min(limits.memory, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    if limits.cores:
        os.sched_setaffinity(0, limits.cores)
    os.nice(limits.nice)


def allow(seconds: float) -> None:
    """End this process once it has computed for so long from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime + seconds), hard))


def answer(handle: Callable[[Any], Any], request: Any, otherwise: str) -> Answer:
    try:
        return Answer(handle(request))
    except Refused as refused:
        return Answer(None, refused.failure, refused.detail)
    except MemoryError as error:
        return Answer(None, "out of memory", last_line(error))
    except Exception as error:  # whatever a rule, TVM or a tool raises: the run goes on
        lacks = "bad_alloc" in str(error) or "Cannot allocate memory" in str(error)
        return Answer(None, "out of memory" if lacks else otherwise, last_line(error))


def last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
