"""What some chips want before or around a program: a second stage at the beginning of flash, and UF2, the file that a USB drive flashes.

UF2 is Microsoft's format (github.com/microsoft/uf2): blocks of 512 bytes, each with an address and 256 bytes for it.
"""

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Beginning:
    """A section that must lie first in flash: the firmware source that has it, its line in the linker script, and its family in UF2."""

    file: str
    section: str
    uf2_family: int


BEGINNINGS = {
    "rp2040": Beginning("boot2_rp2040.c", "    .boot2 : { KEEP(*(.boot2)) . = ALIGN(256); } > flash\n\n", 0xE48BFF56),
}
PAYLOAD = 256


def uf2(image: bytes, base: int, family: int) -> bytes:
    """`image`, which lies at address `base`, as a UF2 file for chips of `family`."""
    image += bytes(-len(image) % PAYLOAD)
    blocks = len(image) // PAYLOAD
    made = bytearray()
    for index in range(blocks):
        head = (0x0A324655, 0x9E5D5157, 0x00002000, base + PAYLOAD * index, PAYLOAD, index, blocks, family)
        data = image[PAYLOAD * index : PAYLOAD * (index + 1)]
        made += struct.pack("<8I", *head) + data.ljust(476, b"\0") + struct.pack("<I", 0x0AB16F30)
    return bytes(made)
