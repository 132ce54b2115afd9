"""Find a target by name. A new machine is a new TOML file, a new family a new folder; nothing here changes.

`x86` is not in a file: it means the machine this runs on.
"""

import itertools
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from schedules.machine import Machine
from stack.errors import StackError, UnknownTarget
from targets.target import Family, Memory, Target

HERE = Path(__file__).parent
HOST = "x86"


@cache
def files() -> dict[str, Path]:
    return {file.stem: file for file in sorted(HERE.glob("*/boards/*.toml"))}


def names() -> list[str]:
    return [HOST, *files()]


def every() -> list[Target]:
    """All targets, the one of this machine as far as it can be described without TVM (absent where it is no x86 with AVX2)."""
    from targets.x86.detect import describe_machine

    named = [load(file) for file in files().values()]
    try:
        return [describe_machine(), *named]
    except StackError:
        return named


def find(name: str) -> Target:
    """The target called `name`; UnknownTarget where there is none."""
    check_name(name)
    if name == HOST:
        from targets.x86.detect import this_machine

        return this_machine()
    return load(files()[name])


def check_name(name: str) -> None:
    """UnknownTarget, with the nearest name, where no target is called `name`."""
    if name in names():
        return
    close = get_close_matches(name, names(), n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else "`stackc targets` lists them all"
    raise UnknownTarget(f"no target is called '{name}'", hint=hint)


def load(file: Path) -> Target:
    """The target that a board file describes; its name is the file's, its family the folder's. StackError where the file is wrong.

    `core = "cortex-m4"` takes over `codegen` and `[machine]` from the file of that name beside it; what this file says itself prevails.
    """
    try:
        entry = tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise StackError(f"the board file is not TOML: {error}", at=str(file)) from None
    machine, memory, board = entry.pop("machine", {}), entry.pop("memory", []), entry.pop("board", {})
    check_keys(entry, ["core", *(field.name for field in fields(Target) if field.name not in ("name", "family", "machine"))], file)
    check_keys(machine, [field.name for field in fields(Machine)], file)
    check_board(board, file)
    base = Machine()
    if "core" in entry:
        core = load(core_file(entry.pop("core"), file))
        entry, base = {"codegen": core.codegen, **entry}, core.machine
    for key in ("summary", "codegen"):
        if key not in entry:
            raise StackError(f"the key '{key}' is missing", at=str(file))
    memories = [load_memory(table, file) for table in memory]
    check_apart(memories, file)
    return Target(name=file.stem, family=file.parts[-3], machine=replace(base, **machine), memory=memories, board=board, **entry)


def core_file(core: str, file: Path) -> Path:
    found = file.with_name(f"{core}.toml")
    if not found.is_file():
        known = [other.stem for other in sorted(file.parent.glob("*.toml")) if other != file]
        close = get_close_matches(core, known, n=1)
        raise StackError(f"no core is called '{core}'", at=str(file), hint=f"did you mean '{close[0]}'?" if close else None)
    return found


def load_memory(table: dict[str, Any], file: Path) -> Memory:
    """One [[memory]] of a board."""
    known = [field.name for field in fields(Memory)]
    check_keys(table, known, file)
    for key in known:
        if key not in table and key != "speed":
            raise StackError(f"the key '{key}' is missing in a [[memory]]", at=str(file))
    memory = Memory(**table)
    if memory.kind not in ("flash", "ram"):
        raise StackError(f"the memory '{memory.name}' is of kind '{memory.kind}'", at=str(file), hint="a memory is 'flash' or 'ram'")
    if not memory.name.isidentifier():
        raise StackError(
            f"'{memory.name}' cannot name a memory", at=str(file), hint="letters, digits and underscores; linker scripts use it"
        )
    if memory.bytes <= 0 or memory.base < 0 or not 0 < memory.speed <= 1:
        raise StackError(
            f"the memory '{memory.name}' has a wrong number", at=str(file), hint="bytes are above 0, speed is above 0 and 1.0 at most"
        )
    return memory


def check_apart(memories: Sequence[Memory], file: Path) -> None:
    """StackError where two memories have one name, or lie on each other."""
    for earlier, later in itertools.combinations(sorted(memories, key=lambda memory: memory.base), 2):
        if earlier.name == later.name:
            raise StackError(f"two memories are called '{later.name}'", at=str(file))
        if earlier.base + earlier.bytes > later.base:
            raise StackError(f"the memories '{earlier.name}' and '{later.name}' overlap", at=str(file))


def check_board(table: dict[str, Any], file: Path) -> None:
    """What [board] may say is its family's matter."""
    family = file.parts[-3]
    if table and not (HERE / family / "board.py").is_file():
        raise StackError(f"targets of the family '{family}' have no table [board]", at=str(file))
    if table:
        import_module(f"targets.{family}.board").check_board(table, str(file))


def check_keys(entry: dict[str, object], known: list[str], file: Path) -> None:
    for key in entry:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            raise StackError(
                f"unknown key '{key}'",
                at=str(file),
                hint=f"did you mean '{close[0]}'?" if close else f"the keys are {', '.join(known)}",
            )


def family_of(target: Target) -> Family:
    family: Callable[[], Family] = import_module(f"targets.{target.family}.family").family
    return family()
