"""A process that has imported a module once, and forks as many of itself as are asked for, each in a few milliseconds.

    server = fork_server("stack.measure.builder"); pid = server.fork(connection, printed); server.reap(pid, 0.2) -> exit code

There is one for each module, which stays until this process ends: a second run of tuning starts at once. Unlike multiprocessing's, it
never imports the program that asks for it, which may be a script that does its work when it is imported. What it forks dies with it.
"""

import atexit
import ctypes
import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import recv_handle, send_handle
from typing import IO

PR_SET_PDEATHSIG = 1  # prctl(2)
WATCH = 1.0  # seconds between two looks at whether its owner lives
STARTING = 120.0  # seconds until it may fork: it imports TVM
LIBRARIES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")  # a process that forks is to have one thread
Request = list[str] | tuple[int, float]  # to fork, with where modules are found; or to reap a process


class ForkServer:
    """The owner's side, for any number of threads. It starts with the first request, and again where it has ended."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.asking = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: Connection | None = None
        self.words = ""  # the last ones

    def fork(self, connection: Connection, printed: IO[bytes]) -> int:
        """The process number of a fork in which the module's `main` serves `connection` and prints into `printed`.

        OSError where the module cannot be imported or the system has no more processes.
        """
        with self.asking:
            pid = self.ask(paths(), connection.fileno(), printed.fileno()) or self.ask(paths(), connection.fileno(), printed.fileno())
        if pid is None:
            raise OSError(f"{self.module} does not start: {self.words}")
        return pid

    def reap(self, pid: int, patience: float) -> int | None:
        """How the fork `pid` ended, as Popen says it; None where it still runs after `patience` seconds, or nobody knows any more."""
        with self.asking:
            return self.ask((pid, patience)) if self.process else None

    def ask(self, request: Request, *descriptors: int) -> int | None:
        """Its answer; None where it has none because it ended."""
        try:
            if not self.connection:
                self.start()
            assert self.connection
            assert self.process
            self.connection.send(request)
            for descriptor in descriptors:
                send_handle(self.connection, descriptor, self.process.pid)
            if self.connection.poll(STARTING):
                answer: int | None = self.connection.recv()
                return answer
        except (EOFError, BrokenPipeError, ConnectionResetError):
            pass
        self.end()
        return None

    def start(self) -> None:
        self.connection, theirs = Pipe()
        program = f"from stack.measure.fork_server import serve_forks; serve_forks({self.module!r}, {theirs.fileno()})"
        self.printed = tempfile.TemporaryFile()  # noqa: SIM115  (`end` closes it)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths())} | dict.fromkeys(LIBRARIES, "1"),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self.printed,
            stderr=self.printed,
            start_new_session=True,  # an interrupt at the terminal is for its owner alone
        )
        theirs.close()

    def end(self) -> None:
        if self.connection and self.process:
            self.connection.close()
            self.process.kill()
            self.process.wait()
            self.words = last_words(self.printed)
            self.printed.close()
        self.process, self.connection = None, None


@cache
def fork_server(module: str) -> ForkServer:
    """The one that has imported `module`, or will."""
    server = ForkServer(module)
    atexit.register(server.end)
    return server


os.register_at_fork(after_in_child=fork_server.cache_clear)


def paths() -> list[str]:
    return [path or os.getcwd() for path in sys.path]


def last_words(printed: IO[bytes]) -> str:
    """The last line that is not empty, after which nothing is left."""
    printed.seek(0)
    lines = printed.read().decode(errors="replace").split("\n")
    printed.seek(0)
    printed.truncate()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def serve_forks(module: str, descriptor: int) -> None:
    """The server's side."""
    owner = os.getppid()
    gc.disable()  # what is imported stays: looking for what may go takes a tenth of the time
    main = import_module(module).main
    gc.freeze()  # or the collector would touch, and so copy, all that is shared
    gc.enable()
    connection = Connection(descriptor)
    try:
        while True:
            while not connection.poll(WATCH):
                if os.getppid() != owner:  # and what the owner forked itself may hold the other end still
                    os._exit(0)
            request = connection.recv()
            if isinstance(request, tuple):
                connection.send(reaped(*request))
                continue
            theirs, printed = recv_handle(connection), recv_handle(connection)
            pid = os.fork()
            if not pid:
                die_with_parent()
                os.setpgid(0, 0)  # what it starts can be ended with it
                connection.close()
                sys.path[:] = request
                os.dup2(printed, 1)
                os.dup2(printed, 2)
                main(Connection(theirs))
                os._exit(0)
            os.setpgid(pid, pid)
            os.close(theirs)
            os.close(printed)
            connection.send(pid)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)


def reaped(pid: int, patience: float) -> int | None:
    """The exit code of the fork `pid`, minus the signal that killed it."""
    until = time.monotonic() + patience
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.005)
