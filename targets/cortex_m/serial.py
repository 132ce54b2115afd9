"""The link to a board at a serial port, through pyserial (the extra `serial`)."""

from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from stack.errors import StackError, ToolMissing


def pyserial() -> ModuleType:
    try:
        import serial
        import serial.tools.list_ports
    except ModuleNotFoundError:
        raise ToolMissing("pyserial is not installed", at="the Python package 'serial'", hint="pip install pyserial") from None
    return serial


class SerialLink:
    """Bytes over `port` at `speed` baud. `timeout` is how many seconds the board may take for one answer."""

    def __init__(self, port: str, speed: int, timeout: float) -> None:
        self.at, self.timeout = port, timeout
        serial = pyserial()
        try:
            self.port = serial.Serial(port, speed, timeout=timeout, write_timeout=timeout)
        except (serial.SerialException, OSError) as error:
            raise StackError(f"the serial port cannot be opened: {error}", at=port, hint=f"the ports here are {listed()}") from None
        self.port.reset_input_buffer()

    def send(self, data: bytes) -> None:
        try:
            self.port.write(data)
            self.port.flush()
        except pyserial().SerialException as error:
            raise StackError(f"the serial port does not take data: {error}", at=self.at, hint="is the board still connected?") from None

    def receive(self, count: int) -> bytes:
        try:
            received = self.port.read(count)
        except pyserial().SerialException as error:
            raise StackError(f"the serial port gives no data: {error}", at=self.at, hint="is the board still connected?") from None
        if len(received) < count:
            raise StackError(
                f"the board gave no answer within {self.timeout:g} s",
                at=self.at,
                hint="`stackc flash DIR --board NAME --harness` puts a program there that answers; is it the right port?",
            )
        return bytes(received)

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
