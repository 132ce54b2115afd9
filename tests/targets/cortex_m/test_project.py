"""The projects that boards and cores get really build, with make and with CMake."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from stack.errors import StackError
from targets.cortex_m import linker
from targets.cortex_m.board import board_of
from targets.cortex_m.boot import uf2
from targets.cortex_m.project import board_files
from targets.registry import find, names
from targets.target import Memory
from tests.targets.cortex_m.projects import write_project

TARGETS = [name for name in names() if name != "x86" and find(name).family == "cortex_m"]
CORES = [name for name in TARGETS if not find(name).memory]
WARNINGS = "CFLAGS=-O2 -std=c99 -Wall -Wextra -Werror -ffunction-sections -fdata-sections"


def project(name: str, folder: Path) -> Path:
    target = find(name)
    manifest = write_project(folder, str(target.codegen["mcpu"]))
    for title, text in board_files(target, "tiny", manifest).items():
        (folder / title).write_text(text)
    return folder


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", TARGETS)
def test_make_builds_every_project_without_warnings(name, tmp_path):
    folder = project(name, tmp_path)
    run("make", "-C", folder, WARNINGS)
    made = {file.name for file in folder.glob("*tiny*")}
    assert made == ({"libtiny.a"} if name in CORES else {"tiny.elf", "tiny.bin", "tiny.hex"})
    if name not in CORES:
        flash = board_of(find(name)).memories("flash")[0]
        assert f"{flash.base:08x}" in run("arm-none-eabi-objdump", "-h", folder / "tiny.elf")


@pytest.mark.skipif(not shutil.which("cmake"), reason="CMake is not installed: apt-get install cmake")
@pytest.mark.parametrize("name", ["cortex-m55", "mps2-an386", "raspberry-pi-pico"])
def test_cmake_builds_the_same(name, tmp_path):
    folder = project(name, tmp_path)
    run("cmake", "-S", folder, "-B", folder / "build")
    run("cmake", "--build", folder / "build")
    made = {file.name for file in (folder / "build").glob("*tiny*")}
    assert made == ({"libtiny.a"} if name in CORES else {"tiny.elf", "tiny.bin", "tiny.hex"})


def test_a_device_s_interrupts_have_places_in_the_vector_table(tmp_path):
    folder = project("nucleo-f446re", tmp_path)
    run("make", "-C", folder)
    words = struct.unpack(f"<{16 + 97}I", (folder / "tiny.bin").read_bytes()[: 4 * (16 + 97)])
    assert words[0] == 0x2002_0000  # the end of RAM
    assert all(word & 1 and word >> 24 == 8 for word in words[16:])  # Thumb code in flash


def test_a_pico_s_image_begins_with_a_second_stage_whose_checksum_is_right(tmp_path):
    folder = project("raspberry-pi-pico", tmp_path)
    run("make", "-C", folder)
    image = (folder / "tiny.bin").read_bytes()
    checksum = 0xFFFFFFFF
    for byte in image[:252]:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x04C11DB7 if checksum >> 31 else 0)) & 0xFFFFFFFF
    assert struct.unpack_from("<I", image, 252) == (checksum,)
    stack, reset = struct.unpack_from("<2I", image, 256)
    assert (stack, reset >> 20) == (0x2004_2000, 0x100)


def test_uf2_blocks_follow_the_published_format():
    image = bytes(range(256)) + b"end"
    blocks = uf2(image, 0x1000_0000, 0xE48BFF56)
    assert len(blocks) == 1024
    for index in range(2):
        block = blocks[512 * index : 512 * (index + 1)]
        begin0, begin1, flags, address, size, number, count, family = struct.unpack_from("<8I", block)
        assert (begin0, begin1, block[508:]) == (0x0A324655, 0x9E5D5157, struct.pack("<I", 0x0AB16F30))
        assert (flags, size, number, count, family) == (0x2000, 256, index, 2, 0xE48BFF56)
        assert address == 0x1000_0000 + 256 * index
    assert blocks[32 : 32 + 256] == image[:256]
    assert blocks[544 : 544 + 4] == b"end\0"


def test_a_board_without_ram_is_refused():
    with pytest.raises(StackError) as caught:
        linker.script("mine", [Memory("rom", "flash", 0, 1024)])
    assert str(caught.value) == (
        "error: the board 'mine' has no memory of kind 'ram'\n"
        "  hint: its board file needs a [[memory]] of kind 'flash' and one of kind 'ram'"
    )


def test_variables_can_be_put_into_a_further_memory(tmp_path):
    folder = project("mps3-an547", tmp_path)
    source = (folder / "main.c").read_text()
    (folder / "main.c").write_text(source.replace('section(".arena")', 'section(".sram")'))
    run("make", "-C", folder)
    assert "31000000" in run("arm-none-eabi-nm", folder / "tiny.elf").split(" b arena")[0].splitlines()[-1]
