"""How the host talks to the harness on a microcontroller: frames over a link, the same for QEMU and for a serial line.

A frame is "SK", a kind, a zero, the payload's length, the payload, and zlib's CRC-32 of all that; numbers are little-endian, 32 bits.

    host    'H'                                          are you there?
    device  'H'  the model's identity, operators, input bytes, output bytes
    host    'R'  flags, first step, the inputs           run once; flags: 1 begin a streaming model anew, 2 measure the stack
    device  'O'  status, count, stack, whole, n, the outputs, n counts of the steps from the first on
    device  'E'                                          what the host sent arrived damaged
    device  'F'  text                                    the firmware faulted

The host sends one frame and awaits the answer. `whole` is 0 where the model wrote behind an arena.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stack.errors import StackError
from targets.runner import Array

HELLO, RUN, OUTPUTS, DAMAGED, FAULT = b"HROEF"
RESTART, MEASURE_STACK = 1, 2
WINDOW = 240  # steps that one run records; firmware/harness.c says the same
STATUS = {1: "a pointer is null", 2: "the arena is not aligned"}
ANSWER = struct.Struct("<i4I")


class Fault(StackError):
    """The firmware faulted, and said so."""


class NoAnswer(StackError):
    """The device said nothing for too long."""


class Link(Protocol):
    """Bytes to and from one device. `receive` returns exactly `count` bytes, or raises StackError once nothing came for too long."""

    at: str  # what errors name

    def send(self, data: bytes) -> None: ...
    def receive(self, count: int) -> bytes: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Answer:
    """What one run gave: outputs as bytes, processor clocks (of QEMU: SysTick's ticks), bytes of stack, clocks of each step."""

    outputs: bytes
    count: int
    stack: int
    steps: Sequence[int]


def frame(kind: int, payload: bytes = b"") -> bytes:
    body = b"SK" + bytes((kind, 0)) + struct.pack("<I", len(payload)) + payload
    return body + struct.pack("<I", zlib.crc32(body))


def read_frame(link: Link) -> tuple[int, bytes]:
    """The next frame's kind and payload; whatever comes before a frame begins is dropped."""
    head = link.receive(2)
    while head != b"SK":
        head = head[1:] + link.receive(1)
    head += link.receive(6)
    (length,) = struct.unpack_from("<I", head, 4)
    payload = link.receive(length)
    (checksum,) = struct.unpack("<I", link.receive(4))
    if checksum != zlib.crc32(payload, zlib.crc32(head)):
        raise StackError("an answer of the device arrived damaged", at=link.at, hint="check the cable, and that the speeds are the same")
    if head[2] == FAULT:
        raise Fault(payload.decode(errors="replace").strip(), at=link.at)
    return head[2], payload


class Session:
    """A model on a device, reached through `link`."""

    def __init__(self, link: Link, operators: int, input_bytes: int, output_bytes: int, identity: int = 0) -> None:
        self.link, self.operators, self.output_bytes = link, operators, output_bytes
        link.send(frame(HELLO))
        kind, payload = read_frame(link)
        if kind != HELLO or payload != struct.pack("<4I", identity, operators, input_bytes, output_bytes):
            raise StackError(
                "the device runs another program than the harness of this very model",
                at=link.at,
                hint="`stackc flash DIR --board NAME --harness` puts it there",
            )

    def run(self, inputs: Sequence[Array], flags: int = 0, first_step: int = 0) -> Answer:
        self.link.send(
            frame(RUN, struct.pack("<2I", flags, first_step) + b"".join(np.ascontiguousarray(array).tobytes() for array in inputs))
        )
        kind, payload = read_frame(self.link)
        while kind == HELLO:  # to a question that was asked before the device listened
            kind, payload = read_frame(self.link)
        if kind != OUTPUTS:
            raise StackError("the inputs arrived damaged at the device", at=self.link.at, hint="check the cable, and run again")
        status, count, stack, whole, steps = ANSWER.unpack_from(payload)
        if status:
            raise StackError(f"the model returned status {status}: {STATUS.get(status, 'unknown')}", at=self.link.at)
        assert whole, "the model wrote behind an arena"
        outputs = payload[ANSWER.size : ANSWER.size + self.output_bytes]
        return Answer(outputs, count, stack, struct.unpack_from(f"<{steps}I", payload, ANSWER.size + self.output_bytes))
