"""From a C project to a firmware: the harness around a model, or the smallest program that runs it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stack.errors import StackError
from targets.cortex_m import boot, linker, toolchain
from targets.cortex_m.binding import binding, example
from targets.cortex_m.board import Board, check_runs

FIRMWARE = Path(__file__).with_name("firmware")
HARNESS = ("startup.c", "harness.c", "frames.c", "counter.c")
MODEL = ("model.c", "weights.c")


def flags_of(manifest: Mapping[str, Any]) -> list[str]:
    """What compiles for the core that a C project was made for."""
    return toolchain.core_flags(manifest["target"]["codegen"]["mcpu"], manifest["machine"]["fpu"])


def build_harness(folder: Path, manifest: Mapping[str, Any], board: Board, into: Path, uart: bool = False, profile: bool = False) -> Path:
    """The harness around the C project in `folder`, for `board`, as an ELF file in the folder `into`.

    It talks through semihosting, or where `uart` is true over the board's serial line.
    """
    check_runs(manifest["target"]["codegen"]["mcpu"], manifest["machine"]["fpu"], board)
    (into / "binding.c").write_text(binding(manifest, board))
    sources = [FIRMWARE / name for name in HARNESS]
    sources.append(FIRMWARE / ("link_uart.c" if uart else "link_semihosting.c"))
    if uart:
        (into / "uart.h").write_text(uart_header(board))
    return build(folder, manifest, board, [*sources, into / "binding.c"], into, harness_defines(board, profile))


def harness_defines(board: Board, profile: bool) -> list[str]:
    return [*(["-DSTACK_PROFILE"] if profile else []), *(["-DSTACK_CYCLES"] if board.has_cycle_counter else [])]


def build_minimal(folder: Path, manifest: Mapping[str, Any], board: Board, into: Path) -> Path:
    """Start-up code, a main() that only runs the model, and the model: what the model costs in flash and RAM."""
    (into / "main.c").write_text(example(manifest, board))
    return build(folder, manifest, board, [FIRMWARE / "startup.c", into / "main.c"], into)


def build(
    folder: Path, manifest: Mapping[str, Any], board: Board, sources: Sequence[Path], into: Path, defines: Sequence[str] = ()
) -> Path:
    core = flags_of(manifest)
    include = [f"-I{folder}", f"-I{into}", f"-I{FIRMWARE}"]
    firmware_flags = [*core, *toolchain.FIRMWARE, *defines, *include]
    model_flags = [*core, *toolchain.OPTIMISE, *toolchain.PLAIN, *defines, f"-I{folder}"]
    model = [folder / source for source in (*MODEL, *manifest.get("library_sources", ()))]
    work = [*((source, firmware_flags) for source in sources), *((source, model_flags) for source in model)]
    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(lambda job: toolchain.compile_source(job[0], into, job[1]), work))
    script = into / "board.ld"
    beginning = boot.BEGINNINGS.get(board.boot)
    if beginning:
        objects.append(toolchain.compile_source(FIRMWARE / beginning.file, into, [*core, *toolchain.FIRMWARE]))
    script.write_text(linker.script(board.name, board.memory, beginning.section if beginning else ""))
    return toolchain.link(objects, script, into / f"{manifest['name']}.elf", core)


def uart_header(board: Board) -> str:
    """uart.h: which driver of link_uart.c, where, and the register writes before it works. StackError where the board file has none."""
    if not board.uart:
        raise StackError(
            f"the board '{board.name}' has no serial line that the harness knows", hint="its board file needs `uart`, as others have"
        )
    steps = "".join(f"{{{kind.upper()}, {address:#x}u, {mask:#x}u, {value:#x}u}}, " for kind, address, mask, value in board.setup)
    return (
        f"#define UART_{board.uart['driver'].upper()}\n#define UART_BASE {board.uart['base']:#x}u\n"
        f"#define UART_DIVIDER {board.uart['divider']}u\n#define UART_SETUP {steps}\n"
    )
