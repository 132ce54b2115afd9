"""These tests build and run firmware; without the tools they are skipped, aloud."""

import pytest

from tests.firmware_tools import need_firmware_tools


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    need_firmware_tools()
