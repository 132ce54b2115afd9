"""The C compiler that links libraries."""

import shutil
from pathlib import Path

from stack.errors import ToolMissing

INSTALL = "apt-get install gcc libc6-dev"


def find_cc() -> Path:
    """cc, gcc or clang on PATH; ToolMissing, with the command, where there is none."""
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise ToolMissing("no C compiler was found", at="cc, gcc or clang on PATH", hint=INSTALL)
