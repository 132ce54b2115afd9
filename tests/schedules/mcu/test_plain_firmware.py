"""Kernels without the DSP extension in QEMU, to the last bit: only there does their assembly run. Layers of one kind share a firmware."""

from pathlib import Path

import numpy as np
import pytest

from schedules.integer import Conv2D, Depthwise
from schedules.machine import Machine
from tests.schedules.mcu import reference
from tests.schedules.mcu.mve_firmware import Firmware, need_tools
from tests.schedules.mcu.plain_cases import M0, M3, constants, images, space
from tests.schedules.mcu.test_plain_conv import LAYERS as CONVOLUTIONS
from tests.schedules.mcu.test_plain_depthwise import LAYERS as DEPTHWISE

BOARDS = {"microbit": M0, "mps2-an385": M3}
LARGE = {"long", "one pixel long", "one pixel bounded", "bounded"}  # for the memory of a micro:bit
KINDS = {"conv": (CONVOLUTIONS, False), "conv over its input": (CONVOLUTIONS, True), "depthwise": (DEPTHWISE, False)}


@pytest.mark.parametrize(("board", "machine"), BOARDS.items(), ids=BOARDS)
@pytest.mark.parametrize(("layers", "overlapped"), KINDS.values(), ids=KINDS)
def test_layers_of_any_shape(layers: dict[str, Conv2D | Depthwise], overlapped: bool, board: str, machine: Machine, tmp_path: Path) -> None:
    need_tools()
    firmware, wanted = Firmware(), []
    for name, op in layers.items():
        offered = space(op, machine)
        keeps_input = offered.rule != "plain_conv" or op.pixels == 1
        if (board == "microbit" and name in LARGE) or (overlapped and keeps_input):
            continue
        x, values = images(op), constants(op)
        firmware.add(offered, offered.default, x, values, op.pixels * op.filters, overlapped)
        wanted.append((name, reference.run(op, x, *values)))
    for (name, y), found in zip(wanted, firmware.run(tmp_path, board), strict=True):
        assert np.array_equal(found, y.ravel()), name
