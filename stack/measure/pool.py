"""Processes of one kind that serve requests side by side, each fed by a thread. A request ends its own process at most.

    pool = Pool("stack.measure.builder", configuration, [limits, limits]); pool.submit(request) -> Future of the Answer

A process that hangs is killed, and one that is gone is started again with the next request. `close` leaves none behind but the server that
forks them, for the next pool of that kind; and should this process be killed, they die with it.
"""

import os
import queue
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any

from stack.measure.fork_server import STARTING, ForkServer, fork_server, last_words
from stack.measure.serve import READY, Answer, Limits

PATIENCE = 12.0  # by the clock, times the seconds of CPU: on a busy machine a request takes longer without being slow
REAPED = 5.0  # seconds that the system takes at most to end what was killed


Work = tuple[Any, Future[Answer]]


class Closed(Exception):
    """The pool was closed before the request was served."""


class Process:
    """One process, forked when it is first asked."""

    def __init__(self, server: ForkServer, configuration: Any, limits: Limits) -> None:
        self.server, self.configuration, self.limits = server, configuration, limits
        self.pid: int | None = None
        self.connection: Connection | None = None
        self.ready = False
        self.printed = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as this)

    def start(self) -> None:
        ours, theirs = Pipe()
        with theirs:
            self.pid = self.server.fork(theirs, self.printed)
        self.connection, self.ready = ours, False
        ours.send((self.limits, self.configuration))

    def ask(self, requests: Sequence[Any]) -> list[Answer]:
        """The answers, or as the only one which end the process found instead."""
        for _ in range(2):  # the second time where it ended while it had nothing to do
            try:
                if not self.connection:
                    self.start()
                if not self.ready:
                    answered = self.receive(STARTING)
                    if answered != READY:
                        assert isinstance(answered, Answer)
                        return [answered]
                    self.ready = True
                assert self.connection
                self.connection.send(requests)
                answered = self.receive(PATIENCE * self.limits.seconds * len(requests))
                return [answered] if isinstance(answered, Answer) else answered
            except (BrokenPipeError, ConnectionResetError):
                ended = self.end()
            except OSError as error:
                return [Answer(None, "crashed", str(error))]
        return [ended]

    def receive(self, patience: float) -> list[Answer] | Answer:
        assert self.connection
        try:
            if self.connection.poll(patience):
                answered: list[Answer] | Answer = self.connection.recv()
                return answered
        except (EOFError, ConnectionResetError):
            return self.end()
        self.end()
        return Answer(None, "timed out", f"no answer within {patience:g} s")

    def end(self) -> Answer:
        """Kill it, if it is not gone already; what its end says."""
        if not self.pid:
            return Answer(None, "crashed", "it did not start")
        if self.connection:
            self.connection.close()
        code = self.server.reap(self.pid, 0.2)
        if code is None:
            kill_group(self.pid)
            self.server.reap(self.pid, REAPED)
        self.pid = self.connection = None
        return Answer(None, *meaning(code or 0, last_words(self.printed)))


def kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def meaning(code: int, printed: str) -> tuple[str, str]:
    """The class of failure that an exit code means, and in which words."""
    if code == -signal.SIGXCPU:
        return "timed out", "it computed for longer than it may"
    if "bad_alloc" in printed or "out of memory" in printed.lower():
        return "out of memory", printed
    if code == -signal.SIGKILL:
        return "out of memory", "the system killed it"
    name = signal.Signals(-code).name if code < 0 else f"exit {code}"
    return "crashed", f"{name}: {printed}" if printed else name


class Pool:
    """Serves requests in order, as many at once as there are `limits`. `seconds` is how long they have worked on how many `served`.

    A process gets up to `together` requests at a time, but no more than its share of those that wait; should it end, each alone.
    """

    def __init__(self, module: str, configuration: Any, limits: Sequence[Limits], together: int = 1) -> None:
        self.waiting: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self.seconds, self.served, self.closing, self.together = 0.0, 0, False, together
        self.counting = threading.Lock()
        self.processes = [Process(fork_server(module), configuration, each) for each in limits]
        self.threads = [threading.Thread(target=self.feed, args=(process,), daemon=True) for process in self.processes]
        for thread in self.threads:
            thread.start()

    def submit(self, request: Any) -> Future[Answer]:
        future: Future[Answer] = Future()
        self.waiting.put((request, future))
        return future

    def feed(self, process: Process) -> None:
        """Start the process, and hand it requests."""
        with suppress(OSError):  # which the first request says
            if not self.closing:
                process.start()
        while works := self.next():
            began = time.monotonic()
            answers = process.ask([request for request, _ in works])
            if len(answers) < len(works) and not self.closing:
                answers = [process.ask([request])[0] for request, _ in works]
            with self.counting:
                self.seconds += time.monotonic() - began
                self.served += len(works)
            for (_, future), answered in zip(works, answers * len(works), strict=False):
                if self.closing:
                    future.set_exception(Closed())
                else:
                    future.set_result(answered)
        process.end()
        process.printed.close()

    def next(self) -> list[Work]:
        """The next requests that nobody has cancelled; none when the pool closes."""
        works: list[Work] = []
        while not works or (len(works) < self.together and self.waiting.qsize() >= len(self.processes) * len(works)):
            try:
                work = self.waiting.get(block=not works)
            except queue.Empty:
                break
            if work is None:
                if works:
                    self.waiting.put(None)
                break
            if not work[1].set_running_or_notify_cancel():
                continue
            if self.closing:
                work[1].set_exception(Closed())
            else:
                works.append(work)
        return works

    def close(self) -> None:
        """End everything, served or not. Harmless when repeated."""
        self.closing = True
        for process in self.processes:
            if process.pid:
                kill_group(process.pid)
        for _ in self.threads:
            self.waiting.put(None)
        for thread in self.threads:
            thread.join()
        while not self.waiting.empty():
            if (work := self.waiting.get()) and work[1].set_running_or_notify_cancel():
                work[1].set_exception(Closed())
