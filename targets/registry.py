"""Find a target by name. A new machine is a new TOML file, a new family a new folder; nothing here changes.

`x86` is not in a file: it means the machine this runs on. A name that ends in .toml is the path of a user's own board file.
"""

import itertools
import tomllib
from collections.abc import Callable, Mapping, Sequence
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
OWN = ".toml"
MEMORY_TYPES = "name and kind are text, base and bytes whole numbers such as 0x2000_0000, speed is a number"


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
    """The target called `name`, or described by the board file `name`; UnknownTarget where there is none."""
    check_name(name)
    if name.endswith(OWN):
        return load_own(Path(name))
    if name == HOST:
        from targets.x86.detect import this_machine

        return this_machine()
    return load(files()[name])


def check_name(name: str) -> None:
    """UnknownTarget, with the nearest name, where no target is called `name`; StackError where it is a board file that is wrong."""
    if name.endswith(OWN):
        load_own(Path(name))
        return
    if name in names():
        return
    close = get_close_matches(name, names(), n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else "`stackc targets` lists them all"
    raise UnknownTarget(f"no target is called '{name}'", hint=hint)


def load(file: Path) -> Target:
    """The target that a board file of ours describes; its name is the file's, its family the folder's. StackError where the file is wrong.

    `core = "cortex-m4"` takes over `codegen` and `[machine]` from the file of that name beside it; what this file says itself prevails.
    """
    beside = {other.stem: other for other in sorted(file.parent.glob(f"*{OWN}")) if other != file}
    return describe(read(file), file, file.parts[-3], beside)


def load_own(file: Path) -> Target:
    """The target that a user's own board file, wherever it lies, describes. It must name one of our cores, whose family is its family."""
    if not file.is_file():
        raise UnknownTarget("there is no such board file", at=str(file), hint="`stackc boards` lists the boards that need no file")
    entry = read(file)
    if "core" not in entry:
        raise StackError("the key 'core' is missing", at=str(file), hint='it names what the board has: core = "cortex-m4", for example')
    return describe(entry, file, core_file(entry["core"], file, files()).parts[-3], files())


def read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StackError(f"the board file is not TOML: {error}", at=str(file)) from None


def describe(entry: dict[str, Any], file: Path, family: str, cores: Mapping[str, Path]) -> Target:
    """The target of `family` that `entry`, read from `file`, describes; `cores` are the files that its `core` may be."""
    machine, memory, board = table(entry, "machine", {}, file), table(entry, "memory", [], file), table(entry, "board", {}, file)
    check_keys(entry, ["core", *(field.name for field in fields(Target) if field.name not in ("name", "family", "machine"))], file)
    check_keys(machine, [field.name for field in fields(Machine)], file)
    check_board(board, family, file)
    base = Machine()
    if "core" in entry:
        core = load(core_file(entry.pop("core"), file, cores))
        entry, base = {"codegen": core.codegen, "features": core.features, **entry}, core.machine
    for key in ("summary", "codegen"):
        if key not in entry:
            raise StackError(f"the key '{key}' is missing", at=str(file))
    memories = [load_memory(each, file) for each in memory]
    check_apart(memories, file)
    for kind in ("flash", "ram"):
        if memories and kind not in [each.kind for each in memories]:
            raise StackError(f"the board has no memory of kind '{kind}'", at=str(file), hint="a firmware needs 'flash' and 'ram'")
    return Target(name=file.stem, family=family, machine=replace(base, **machine), memory=memories, board=board, **entry)


def table(entry: dict[str, Any], key: str, default: Any, file: Path) -> Any:
    """Take a table, or a list of tables, out of `entry`."""
    value = entry.pop(key, default)
    if not isinstance(value, type(default)) or not all(isinstance(each, dict) for each in value if isinstance(value, list)):
        raise StackError(f"'{key}' is no table", at=str(file), hint=f"write [[{key}]]" if isinstance(default, list) else f"write [{key}]")
    return value


def core_file(core: object, file: Path, cores: Mapping[str, Path]) -> Path:
    """Where the core is described that `file` names; StackError, with the nearest name, where no file of `cores` does."""
    if str(core) not in cores:
        close = get_close_matches(str(core), cores, n=1)
        raise StackError(f"no core is called '{core}'", at=str(file), hint=f"did you mean '{close[0]}'?" if close else None)
    return cores[str(core)]


def load_memory(table: dict[str, Any], file: Path) -> Memory:
    """One [[memory]] of a board."""
    known = [field.name for field in fields(Memory)]
    check_keys(table, known, file)
    for key in known:
        if key not in table and key != "speed":
            raise StackError(f"the key '{key}' is missing in a [[memory]]", at=str(file))
    for key, value in table.items():
        kind = str if key in ("name", "kind") else (int, float) if key == "speed" else int
        if not isinstance(value, kind):
            raise StackError(f"in a [[memory]], {key} = {value!r} is of the wrong type", at=str(file), hint=MEMORY_TYPES)
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


def check_board(table: dict[str, Any], family: str, file: Path) -> None:
    """What [board] may say is its family's matter."""
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
