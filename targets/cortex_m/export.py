"""A C project as a package of another build system: Zephyr, Arduino, PlatformIO (and ESP-IDF), or plain CMake.

    export(folder, manifest, "zephyr", out)     # out/zephyr/module.yml, CMakeLists.txt, Kconfig, include/kws.h, src/kws.c ...

Files bear the model's name, so that several models go into one program. A new format is one entry of FORMATS.
"""

import json
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stack.errors import StackError
from targets.cortex_m import toolchain
from targets.cortex_m.binding import call, labels, variables
from targets.cortex_m.board import Board

FLAGS = " ".join(toolchain.OPTIMISE)
VERSION = "1.0.0"


def sources(folder: Path, manifest: Mapping[str, Any], header: str, code: str) -> dict[str, str]:
    """The model's files under its name, headers in the folder `header`, sources in `code`."""
    name = manifest["name"]
    text = {file: (folder / file).read_text() for file in ("model.h", "model.c", "weights.c")}
    return {
        **{f"{code}/{file}": (folder / file).read_text() for file in manifest["files"] if "/" in file},  # of a library that kernels call
        f"{header}/{name}.h": text["model.h"],
        f"{code}/{name}.c": text["model.c"].replace('#include "model.h"', f'#include "{name}.h"'),
        f"{code}/{name}_weights.c": text["weights.c"],
    }


def listed(manifest: Mapping[str, Any]) -> str:
    """The C files of a package whose sources are in src/."""
    name = manifest["name"]
    return " ".join(f"src/{file}" for file in (f"{name}.c", f"{name}_weights.c", *manifest.get("library_sources", ())))


def cmake(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """A package that another project adds as a subfolder, or finds once it is installed."""
    name = manifest["name"]
    lists = f"""\
        # {name}: add_subdirectory() it, or install it and find_package({name}); then target_link_libraries(... {name}::{name}).
        cmake_minimum_required(VERSION 3.13)
        project({name} VERSION {VERSION} LANGUAGES C)
        include(GNUInstallDirs)
        include(CMakePackageConfigHelpers)

        add_library({name} STATIC {listed(manifest)})
        add_library({name}::{name} ALIAS {name})
        target_include_directories({name} PUBLIC $<BUILD_INTERFACE:${{CMAKE_CURRENT_SOURCE_DIR}}/include> $<INSTALL_INTERFACE:include>)
        target_compile_options({name} PRIVATE $<$<C_COMPILER_ID:GNU>:{";".join(toolchain.OPTIMISE)}>)
        target_link_libraries({name} PUBLIC m)

        install(TARGETS {name} EXPORT {name}Config ARCHIVE DESTINATION ${{CMAKE_INSTALL_LIBDIR}})
        install(FILES include/{name}.h DESTINATION include)
        install(EXPORT {name}Config NAMESPACE {name}:: DESTINATION ${{CMAKE_INSTALL_LIBDIR}}/cmake/{name})
        write_basic_package_version_file({name}ConfigVersion.cmake COMPATIBILITY SameMajorVersion)
        install(FILES ${{CMAKE_CURRENT_BINARY_DIR}}/{name}ConfigVersion.cmake DESTINATION ${{CMAKE_INSTALL_LIBDIR}}/cmake/{name})
        """
    return {**sources(folder, manifest, "include", "src"), "CMakeLists.txt": textwrap.dedent(lists)}


def zephyr(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """A module: name its folder in ZEPHYR_EXTRA_MODULES or in west.yml, and set CONFIG_<NAME>=y."""
    name, upper = manifest["name"], manifest["name"].upper()
    lists = f"""\
        if(CONFIG_{upper})
          zephyr_include_directories(include)
          zephyr_library_named({name})
          zephyr_library_sources({listed(manifest)})
          zephyr_library_compile_options({FLAGS})
        endif()
        """
    kconfig = f"""\
        config {upper}
        \tbool "The neural network {name}"
        \thelp
        \t  Runs {name} in a memory of {upper}_ARENA_BYTES bytes that the caller gives. Needs no heap and no thread of its own.
        """
    return {
        **sources(folder, manifest, "include", "src"),
        "zephyr/module.yml": f"name: {name}\nbuild:\n  cmake: .\n  kconfig: Kconfig\n",
        "CMakeLists.txt": textwrap.dedent(lists),
        "Kconfig": textwrap.dedent(kconfig),
    }


def arduino(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """A library with an example. Its folder, or a zip of it, goes to "Add .ZIP Library"."""
    name = manifest["name"]
    made = sources(folder, manifest, "src", "src")
    # Arduino compiles for size and lets no library say otherwise.
    made[f"src/{name}.c"] = f'#pragma GCC optimize ("{toolchain.OPTIMISE[0].lstrip("-")}")\n' + made[f"src/{name}.c"]
    properties = {
        "name": name,
        "version": VERSION,
        "author": "Stack",
        "maintainer": "Stack",
        "sentence": f"The neural network {name}, compiled to C.",
        "paragraph": f"For {manifest['target']['name']} and what runs its code. No heap, no operating system.",
        "category": "Data Processing",
        "architectures": "*",
        "includes": f"{name}.h",
    }
    return {
        **made,
        "library.properties": "".join(f"{key}={value}\n" for key, value in properties.items()),
        f"examples/{name}_once_a_second/{name}_once_a_second.ino": sketch(manifest),
    }


def sketch(manifest: Mapping[str, Any]) -> str:
    name = manifest["name"]
    no_board = Board(manifest["target"]["name"], manifest["target"]["codegen"]["mcpu"], manifest["machine"]["fpu"], ())
    memory = [line.replace(" + SPARE]", "]").replace(', section(".arena")', "") for line in variables(manifest, no_board)]
    lines = [
        f"// Runs {name} once a second and prints what it returned and how long it took. {name}.h says where inputs and outputs lie,",
        f"// {labels(manifest, 'input')[0]}_OFFSET bytes into the arena for example, and how to scale them.",
        f"#include <{name}.h>",
        "",
        *memory,
        "",
        "void setup() {",
        "  Serial.begin(115200);",
        *([f"  {name}_reset(&state);"] if manifest["states"] else []),
        "}",
        "",
        "void loop() {",
        "  const unsigned long begin = micros();",
        f"  const int status = {sketch_call(manifest)};",
        "  const unsigned long spent = micros() - begin;",
        '  Serial.print("status ");',
        "  Serial.print(status);",
        '  Serial.print(", microseconds ");',
        "  Serial.println(spent);",
        "  delay(1000);",
        "}",
    ]
    return "\n".join(lines) + "\n"


def sketch_call(manifest: Mapping[str, Any]) -> str:
    """C++ turns no void pointer into another by itself."""
    text = call(manifest)
    for kind in ("input", "output"):
        for label, tensor in zip(labels(manifest, kind), manifest[f"{kind}s"], strict=True):
            pointer = C_POINTERS[tensor["dtype"]]
            for place in (f"arena + {label}_OFFSET", label.lower()):
                text = text.replace(f"(void *)({place})", f"({pointer} *)({place})")
    return text


C_POINTERS = {
    "bool": "uint8_t",
    "float32": "float",
    "float64": "double",
    **{f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def platformio(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """A library for PlatformIO (into lib/), which is at the same time a component for ESP-IDF (into components/)."""
    name = manifest["name"]
    sentence = f"The neural network {name}, compiled to C"
    library = {
        "name": name,
        "version": VERSION,
        "description": sentence,
        "frameworks": "*",
        "platforms": "*",
        "headers": f"{name}.h",
        "build": {"includeDir": "include", "srcDir": "src", "flags": list(toolchain.OPTIMISE)},
    }
    lists = f"""\
        idf_component_register(SRCS {listed(manifest)} INCLUDE_DIRS include)
        target_compile_options(${{COMPONENT_LIB}} PRIVATE {FLAGS})
        """
    return {
        **sources(folder, manifest, "include", "src"),
        "library.json": json.dumps(library, indent=2) + "\n",
        "CMakeLists.txt": textwrap.dedent(lists),
        "idf_component.yml": f'version: "{VERSION}"\ndescription: "{sentence}"\n',
    }


FORMATS: dict[str, Callable[[Path, Mapping[str, Any]], dict[str, str]]] = {
    "zephyr": zephyr,
    "arduino": arduino,
    "platformio": platformio,
    "cmake": cmake,
}


def export(folder: Path, manifest: Mapping[str, Any], format: str, out: Path) -> list[Path]:
    """Write the C project in `folder` as a package of `format` into `out`; the files written. StackError where `out` is not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StackError("the place for the package is not empty", at=str(out), hint="name an empty or new folder")
    written = []
    for title, text in FORMATS[format](folder, manifest).items():
        file = out / title
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        written.append(file)
    return written
