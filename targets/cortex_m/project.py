"""What builds a C project: a library for a core; for a board a whole firmware, with start-up code and linker script.

    board_files(target, "kws", manifest) -> {"Makefile": ..., "CMakeLists.txt": ..., "startup.c": ..., "board.ld": ..., "main.c": ...}

Both build systems use the flags that `stackc run` and `stackc profile` use.
"""

from collections.abc import Mapping
from typing import Any

from targets.cortex_m import boot, linker, toolchain
from targets.cortex_m.binding import example
from targets.cortex_m.board import Board, board_of
from targets.cortex_m.build import FIRMWARE
from targets.target import Target

LIBRARY_MAKE = """# Builds lib{name}.a for {title}, with the GNU toolchain for Arm.
# `make PREFIX=/path/to/bin/arm-none-eabi-` names another one.
PREFIX ?= arm-none-eabi-
CC := $(PREFIX)gcc
AR := $(PREFIX)ar
CFLAGS ?= {flags}
CORE ?= {core}

lib{name}.a: {objects}
\t$(AR) rcs $@ $^

%.o: %.c model.h
\t$(CC) $(CORE) $(CFLAGS) -c $< -o $@

clean:
\trm -f {objects} lib{name}.a

.PHONY: clean
"""

FIRMWARE_MAKE = """# Builds {name}.elf, {name}.bin and {name}.hex for {title}, with the GNU toolchain for Arm.
# `make PREFIX=/path/to/bin/arm-none-eabi-` names another one.
PREFIX ?= arm-none-eabi-
CC := $(PREFIX)gcc
CFLAGS ?= {flags}
CORE := {core}
OBJECTS := {objects}

all: {name}.elf {name}.bin {name}.hex

{name}.elf: $(OBJECTS) board.ld
\t$(CC) $(CORE) -nostartfiles -Wl,--gc-sections -T board.ld $(OBJECTS) -o $@ -lm
\t$(PREFIX)size $@

%.bin: %.elf
\t$(PREFIX)objcopy -O binary $< $@

%.hex: %.elf
\t$(PREFIX)objcopy -O ihex $< $@

startup.o: CORE += {defines}
%.o: %.c model.h
\t$(CC) $(CORE) $(CFLAGS) -c $< -o $@

clean:
\trm -f $(OBJECTS) {name}.elf {name}.bin {name}.hex

.PHONY: all clean
"""

CMAKE_HEAD = """# {what} for {title}. On its own it takes the GNU toolchain for Arm from PATH; inside another project it takes that one's.
cmake_minimum_required(VERSION 3.13)
if(NOT PROJECT_NAME AND NOT CMAKE_TOOLCHAIN_FILE AND NOT CMAKE_C_COMPILER)
  set(CMAKE_SYSTEM_NAME Generic)
  set(CMAKE_SYSTEM_PROCESSOR arm)
  set(CMAKE_C_COMPILER arm-none-eabi-gcc)
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  set({name}_core {core})
endif()
project({name} C)
"""

CMAKE_LIBRARY = """
add_library({name} STATIC {sources})
target_include_directories({name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})
target_compile_options({name} PRIVATE ${{{name}_core}} {flags})
"""

CMAKE_FIRMWARE = """
add_executable({name} {sources})
target_compile_options({name} PRIVATE {core} {flags})
set_source_files_properties(startup.c PROPERTIES COMPILE_OPTIONS "{defines}")
target_link_options({name} PRIVATE {core} -nostartfiles -Wl,--gc-sections -T${{CMAKE_CURRENT_SOURCE_DIR}}/board.ld)
target_link_libraries({name} PRIVATE m)
set_target_properties({name} PROPERTIES SUFFIX .elf LINK_DEPENDS ${{CMAKE_CURRENT_SOURCE_DIR}}/board.ld)
get_filename_component(tools ${{CMAKE_C_COMPILER}} DIRECTORY)
find_program(OBJCOPY arm-none-eabi-objcopy HINTS ${{tools}} REQUIRED)
add_custom_command(TARGET {name} POST_BUILD
  COMMAND ${{OBJCOPY}} -O binary $<TARGET_FILE:{name}> {name}.bin
  COMMAND ${{OBJCOPY}} -O ihex $<TARGET_FILE:{name}> {name}.hex)
"""


def board_files(target: Target, name: str, manifest: Mapping[str, Any]) -> dict[str, str]:
    """What goes into the project beside the model, by file name. `manifest` is what the manifest will say of the model."""
    board = board_of(target)
    beginning = boot.BEGINNINGS.get(board.boot)
    frame = ["startup.c", "main.c", *([beginning.file] if beginning else [])] if board.memory else []
    sources = [*frame, "model.c", "weights.c", *manifest.get("library_sources", ())]
    words = {
        "name": name,
        "sources": " ".join(sources),
        "objects": " ".join(source.replace(".c", ".o") for source in sources),
        "title": target.name,
        "core": " ".join(toolchain.core_flags(board.core, board.fpu)),
        "flags": " ".join([*toolchain.OPTIMISE, *toolchain.PLAIN]),
        "defines": f"-DSTACK_INTERRUPTS={board.interrupts}",
    }
    if not board.memory:
        return {
            "Makefile": LIBRARY_MAKE.format(**words),
            "CMakeLists.txt": (CMAKE_HEAD + CMAKE_LIBRARY).format(what=f"Builds lib{name}.a", **words),
        }
    return {**firmware_files(board, words), "main.c": example({**manifest, "name": name}, board)}


def firmware_files(board: Board, words: Mapping[str, str]) -> dict[str, str]:
    beginning = boot.BEGINNINGS.get(board.boot)
    made = {
        "startup.c": (FIRMWARE / "startup.c").read_text(),
        "board.ld": linker.script(board.name, board.memory, beginning.section if beginning else ""),
        "Makefile": FIRMWARE_MAKE.format(**words),
        "CMakeLists.txt": (CMAKE_HEAD + CMAKE_FIRMWARE).format(what=f"Builds {words['name']}.elf, .bin and .hex", **words),
    }
    if beginning:
        made[beginning.file] = (FIRMWARE / beginning.file).read_text()
    return made
