"""These tests build and run firmware; without the tools they are skipped, aloud."""

import pytest

from stack.errors import ToolMissing
from targets.cortex_m import qemu, toolchain
from tests.targets.cuda_networks import skip_aloud


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    try:
        toolchain.find_newlib()
        qemu.find_qemu()
    except ToolMissing as error:
        skip_aloud(f"firmware was not built and run: {error.what}; {error.hint}")
