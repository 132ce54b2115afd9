"""The environment variables we read; there are no others. `stackc doctor` prints this table."""

import os
import re
from pathlib import Path

KNOBS = {
    "STACK_DATABASE": "tuning database, a file or a URL, that compile and tune use where they are told none",
    "STACK_DEBUG": "1: a line per pass; 2: also the rule and decision of each program; 3: also its scheduled loops",
    "STACK_DUMP": "folder that receives the IR after each pass that changed it, numbered in order",
    "STACK_MODELS": "folder of models for our tests and benchmarks (default: shared/models beside the project)",
    "STACK_SKIP": "graph passes to leave out, by name, separated by commas",
}


def read(name: str) -> str:
    assert name in KNOBS, f"{name} is missing from KNOBS"
    return os.environ.get(name, "")


def shown(name: str) -> str:
    """Its value for others to see."""
    return without_password(read(name))


def without_password(text: str) -> str:
    """`text`, where URLs have *** for their passwords."""
    return re.sub(r"(://[^/@:\s]*):[^/\s]*@", r"\1:***@", text)


def debug() -> int:
    level = read("STACK_DEBUG")
    return int(level) if level.isdigit() else 0


def dump_folder() -> Path | None:
    folder = read("STACK_DUMP")
    return Path(folder) if folder else None


def skipped() -> frozenset[str]:
    return frozenset(name.strip() for name in read("STACK_SKIP").split(",") if name.strip())


def models() -> Path:
    folder = read("STACK_MODELS")
    return Path(folder) if folder else Path(__file__).parents[2] / "shared" / "models"


def database() -> str:
    """Where compiling finds decisions, and tuning leaves them, when they are not told; empty where nowhere."""
    return read("STACK_DATABASE")


def own_database() -> Path:
    """Where tuning leaves its decisions when nobody says: a file in the user's data folder (XDG Base Directory Specification)."""
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if data else Path.home() / ".local" / "share") / "stack" / "tuning.db"


def deciding() -> dict[str, str]:
    """The variables that can make a library another one, those that are set."""
    return {name: value for name in ("STACK_DATABASE", "STACK_SKIP") if (value := shown(name))}
