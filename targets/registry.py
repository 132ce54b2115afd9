"""Find a target by name. A new machine is a new TOML file, a new family a new folder; nothing here changes.

`x86` is not in a file: it means the machine this runs on.
"""

import tomllib
from collections.abc import Callable
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path

from schedules.machine import Machine
from stack.errors import StackError, UnknownTarget
from targets.target import Family, Target

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
    """The target that a board file describes; its name is the file's, its family the folder's. StackError where the file is wrong."""
    try:
        entry = tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise StackError(f"the board file is not TOML: {error}", at=str(file)) from None
    machine = entry.pop("machine", {})
    check_keys(entry, [field.name for field in fields(Target) if field.name not in ("name", "family", "machine")], file)
    check_keys(machine, [field.name for field in fields(Machine)], file)
    for key in ("summary", "codegen"):
        if key not in entry:
            raise StackError(f"the key '{key}' is missing", at=str(file))
    return Target(name=file.stem, family=file.parts[-3], machine=Machine(**machine), **entry)


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
