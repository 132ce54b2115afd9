"""Firmware is built and run by tools that a machine may lack."""

from stack.errors import ToolMissing
from targets.cortex_m import qemu, toolchain
from tests.targets.cuda_networks import skip_aloud


def need_firmware_tools() -> None:
    """Skip the test, aloud, where firmware cannot be built or run."""
    try:
        toolchain.find_newlib()
        qemu.find_qemu()
    except ToolMissing as missing:
        skip_aloud(f"firmware was not built and run: {missing.what}; {missing.hint}")
