"""Every tutorial runs to its end, as a user would run it; what they claim, they assert themselves."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from stack.errors import ToolMissing
from targets.cortex_m import qemu, toolchain
from tests.targets.cuda_networks import skip_aloud

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "tutorials").glob("*.py"))


FIRMWARE = {"03_deploy_to_a_microcontroller": ["onnxruntime", "sklearn"], "04_add_a_board": ["onnxruntime"]}  # and the packages they need


def check_tools(tutorial: str) -> None:
    """Skip, aloud, where a tutorial that builds firmware lacks what its docstring asks for."""
    missing = [package for package in FIRMWARE[tutorial] if find_spec(package) is None]
    if missing:
        skip_aloud(f"the tutorial {tutorial} did not run: {', '.join(missing)} missing; pip install {' '.join(missing)}")
    try:
        toolchain.find_newlib()
        qemu.find_qemu()
    except ToolMissing as error:
        skip_aloud(f"the tutorial {tutorial} did not run: {error.what}; {error.hint}")


@pytest.mark.parametrize("file", TUTORIALS, ids=lambda file: file.stem)
def test_runs(file: Path, tmp_path: Path) -> None:
    if file.stem in FIRMWARE:
        check_tools(file.stem)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STACK_")}
    done = subprocess.run([sys.executable, str(file)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout, "a tutorial shows what it did"


def test_tutorials_are_numbered_in_order() -> None:
    numbers = [int(match[1]) for file in TUTORIALS if (match := re.match(r"(\d\d)_\w+\.py$", file.name))]
    assert numbers == list(range(1, len(TUTORIALS) + 1))
