"""A process that does what it is told, without TVM."""

import os
import signal
import time
from multiprocessing.connection import Connection

import numpy as np

from stack.measure.serve import Handler, Refused, one_by_one, serve


def handle(request: str) -> object:
    if request == "pid":
        return os.getpid()
    if request == "compute for ever":
        while True:
            pass
    if request == "wait for ever":
        time.sleep(1000)
    if request == "crash":
        print("the last words", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if request == "be killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if request == "allocate":
        return np.ones(1 << 45, np.uint8)
    if request == "fill":
        return len([np.empty(1 << 26, np.uint8) for _ in range(64)])
    if request == "refuse":
        raise Refused("wrong result", "by 1")
    raise ValueError("many words\nthe last line")


def main(connection: Connection) -> None:
    serve(connection, start)


def start(_configuration: object) -> Handler:
    return one_by_one(handle, "does not build")
