"""Every tutorial runs to its end, as a user would run it; what they claim, they assert themselves."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "tutorials").glob("*.py"))


@pytest.mark.parametrize("file", TUTORIALS, ids=lambda file: file.stem)
def test_runs(file: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STACK_")}
    done = subprocess.run([sys.executable, str(file)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout, "a tutorial shows what it did"


def test_tutorials_are_numbered_in_order() -> None:
    numbers = [int(match[1]) for file in TUTORIALS if (match := re.match(r"(\d\d)_\w+\.py$", file.name))]
    assert numbers == list(range(1, len(TUTORIALS) + 1))
