"""Packages for other build systems: their sources compile, CMake builds and installs them, and their metadata can be read."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from stack.errors import StackError
from targets.cortex_m import toolchain
from targets.cortex_m.export import FORMATS, export
from tests.targets.cortex_m.projects import write_project

CORE = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
needs_cmake = pytest.mark.skipif(not shutil.which("cmake"), reason="CMake is not installed: apt-get install cmake")


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def exported(format: str, tmp_path: Path, **more: bool) -> Path:
    manifest = write_project(tmp_path / "project", **more)
    out = tmp_path / "out"
    written = export(tmp_path / "project", manifest, format, out)
    assert sorted(written) == sorted(file for file in out.rglob("*") if file.is_file())
    return out


@pytest.mark.parametrize("format", FORMATS)
def test_the_sources_of_every_format_compile_under_the_model_s_name(format, tmp_path):
    out = exported(format, tmp_path, streaming=True)
    sources = sorted(out.glob("src/*.c"))
    assert [file.name for file in sources] == ["tiny.c", "tiny_weights.c"]
    headers = next(out.rglob("tiny.h")).parent
    for source in sources:
        run(toolchain.find_tool(), *CORE, "-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{headers}", "-c", source, "-o", tmp_path / "x.o")


TOOLCHAIN = """set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_C_FLAGS_INIT "{}")
""".format(" ".join(CORE))
USER = """cmake_minimum_required(VERSION 3.13)
project(user C)
%s
add_library(user STATIC user.c)
target_link_libraries(user PRIVATE tiny::tiny)
"""


@needs_cmake
def test_another_cmake_project_adds_the_package_or_finds_it_installed(tmp_path):
    out = exported("cmake", tmp_path)
    (tmp_path / "arm.cmake").write_text(TOOLCHAIN)
    run("cmake", "-S", out, "-B", tmp_path / "build", f"-DCMAKE_TOOLCHAIN_FILE={tmp_path}/arm.cmake")
    run("cmake", "--build", tmp_path / "build")
    run("cmake", "--install", tmp_path / "build", "--prefix", tmp_path / "installed")
    (tmp_path / "user.c").write_text("#include <tiny.h>\nint size(void);\nint size(void) { return TINY_ARENA_BYTES; }\n")
    for index, way in enumerate((f"add_subdirectory({out} tiny)", f"find_package(tiny 1.0 REQUIRED PATHS {tmp_path}/installed)")):
        user = tmp_path / f"user{index}"
        user.mkdir()
        shutil.copy(tmp_path / "user.c", user)
        (user / "CMakeLists.txt").write_text(USER % way)
        run("cmake", "-S", user, "-B", user / "build", f"-DCMAKE_TOOLCHAIN_FILE={tmp_path}/arm.cmake")
        run("cmake", "--build", user / "build")
    assert "tiny_run" in run("arm-none-eabi-nm", next((tmp_path / "installed").rglob("libtiny.a")))


ZEPHYR = """cmake_minimum_required(VERSION 3.13)
project(stand_in C)
function(zephyr_include_directories)
  include_directories(${ARGN})
endfunction()
macro(zephyr_library_named name)
  add_library(${name} STATIC)
  set(library ${name})
endmacro()
function(zephyr_library_sources)
  foreach(source ${ARGN})
    target_sources(${library} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/${source})
  endforeach()
endfunction()
function(zephyr_library_compile_options)
  target_compile_options(${library} PRIVATE ${ARGN})
endfunction()
function(idf_component_register)
  cmake_parse_arguments(component "" "" "SRCS;INCLUDE_DIRS" ${ARGN})
  add_library(component STATIC ${component_SRCS})
  target_include_directories(component PUBLIC ${component_INCLUDE_DIRS})
  set(COMPONENT_LIB component PARENT_SCOPE)
endfunction()
set(CONFIG_TINY y)
"""


@needs_cmake
@pytest.mark.parametrize("format", ["zephyr", "platformio"])
def test_cmake_runs_the_lists_of_zephyr_and_esp_idf_with_stand_ins_for_their_functions(format, tmp_path):
    out = exported(format, tmp_path)
    host = tmp_path / "host"
    host.mkdir()
    (host / "CMakeLists.txt").write_text(ZEPHYR + f"add_subdirectory({out} package)\n")
    (tmp_path / "arm.cmake").write_text(TOOLCHAIN)
    run("cmake", "-S", host, "-B", host / "build", f"-DCMAKE_TOOLCHAIN_FILE={tmp_path}/arm.cmake")
    run("cmake", "--build", host / "build")
    assert "tiny_run" in run("arm-none-eabi-nm", next((host / "build").rglob("*.a")))


def test_zephyr_s_metadata(tmp_path):
    out = exported("zephyr", tmp_path)
    module = yaml.safe_load((out / "zephyr/module.yml").read_text())
    assert module == {"name": "tiny", "build": {"cmake": ".", "kconfig": "Kconfig"}}
    assert all((out / module["build"][key]).exists() for key in ("cmake", "kconfig"))
    assert (out / "Kconfig").read_text().startswith("config TINY\n\tbool ")


def test_platformio_s_and_esp_idf_s_metadata(tmp_path):
    out = exported("platformio", tmp_path)
    library = json.loads((out / "library.json").read_text())
    assert (library["name"], library["headers"]) == ("tiny", "tiny.h")
    assert (out / library["build"]["includeDir"] / library["headers"]).is_file()
    assert yaml.safe_load((out / "idf_component.yml").read_text())["version"] == "1.0.0"


def test_arduino_s_metadata(tmp_path):
    out = exported("arduino", tmp_path)
    properties = dict(line.split("=", 1) for line in (out / "library.properties").read_text().splitlines())
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "architectures"} <= properties.keys()
    assert (out / "src" / properties["includes"]).is_file()


@pytest.mark.parametrize("streaming", [False, True])
def test_arduino_s_example_compiles_as_a_sketch(streaming, tmp_path):
    out = exported("arduino", tmp_path, streaming=streaming)
    (sketch,) = out.rglob("*.ino")
    assert sketch.stem == sketch.parent.name  # Arduino asks for that
    header = (out / "src/tiny.h").read_text()
    (out / "src/tiny.h").write_text('extern "C" {\n' + header + "}\n")  # as the compiler's own headers say
    board = (
        "unsigned long micros(); void delay(unsigned long);\nstruct { template <class T> void print(T); template <class T> void println(T);"
    )
    board += " void begin(long); } Serial;\n"
    (tmp_path / "sketch.cpp").write_text(board + sketch.read_text())
    run("arm-none-eabi-g++", *CORE, "-fsyntax-only", "-Wall", "-Werror", f"-I{out}/src", tmp_path / "sketch.cpp")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_place_that_is_taken(kind, tmp_path):
    manifest = write_project(tmp_path / "project")
    out = tmp_path / "project" / ("model.c" if kind == "file" else "")
    with pytest.raises(StackError) as caught:
        export(tmp_path / "project", manifest, "cmake", out)
    assert str(caught.value) == f"error: the place for the package is not empty\n  at: {out}\n  hint: name an empty or new folder"
