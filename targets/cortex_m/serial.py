"""The link to a board at a serial port, through pyserial (the extra `serial`)."""

import os
import termios
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from stack.errors import StackError, ToolMissing
from targets.cortex_m.protocol import NoAnswer


def pyserial() -> ModuleType:
    try:
        import serial
        import serial.tools.list_ports
    except ModuleNotFoundError:
        raise ToolMissing("pyserial is not installed", at="the Python package 'serial'", hint="pip install pyserial") from None
    return serial


FAILURES = (OSError, termios.error)  # of a port that is gone; pyserial's own are OSErrors


class SerialLink:
    """Bytes over `port` at `speed` baud. `timeout` is how many seconds the board may take for one answer."""

    def __init__(self, port: str, speed: int, timeout: float) -> None:
        self.at, self.timeout = port, timeout
        serial = pyserial()
        try:
            self.port = serial.Serial(port, speed, timeout=timeout, write_timeout=timeout)
            self.port.reset_input_buffer()
        except FAILURES as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
            raise StackError(f"the serial port cannot be opened: {reason}", at=port, hint=f"the ports here are {listed()}") from None

    def send(self, data: bytes) -> None:
        try:
            self.port.write(data)
            self.port.flush()
        except FAILURES as error:
            raise StackError(f"the serial port does not take data: {error}", at=self.at, hint="is the board still connected?") from None

    def receive(self, count: int) -> bytes:
        try:
            received = self.port.read(count)
        except FAILURES as error:
            raise StackError(f"the serial port gives no data: {error}", at=self.at, hint="is the board still connected?") from None
        if len(received) < count:
            raise NoAnswer(
                f"the board gave no answer within {self.timeout:.3g} s",
                at=self.at,
                hint="`stackc flash DIR --board NAME --harness` puts a program there that answers; is it the right port?",
            )
        return bytes(received)

    def allow(self, seconds: float) -> None:
        """So long may each further answer take."""
        self.timeout = self.port.timeout = self.port.write_timeout = seconds

    def cancel(self) -> None:
        """Let a `receive` in another thread end at once."""
        self.port.cancel_read()

    def close(self) -> None:
        self.port.close()


def find_port(board: str, words: Sequence[str], otherwise: str = "") -> str:
    """The one serial port whose description has one of `words` in it; StackError where there are none or several."""
    matching = [port.device for port in ports() if any(word.lower() in describe(port) for word in words)]
    if len(matching) == 1:
        return str(matching[0])
    what = "no serial port looks" if not matching else f"several serial ports look ({', '.join(matching)})"
    hint = f"connect it, or name its port with --port; the ports here are {listed()}" + (f"; {otherwise}" if otherwise else "")
    raise StackError(f"{what} like the board '{board}'", hint=hint)


def describe(port: Any) -> str:
    return f"{port.description} {port.product} {port.manufacturer}".lower()


def ports() -> Iterable[Any]:
    return pyserial().tools.list_ports.comports()


def listed() -> str:
    return ", ".join(sorted(port.device for port in ports())) or "none"
