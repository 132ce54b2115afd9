"""Which points the rules of microcontrollers let through: none that asks for more scratch memory than it may or does not compile."""

from itertools import product

import pytest

from schedules import integer
from schedules.integer import FusedRows
from schedules.mcu.intrinsics import used
from schedules.mcu.room import LEAST, images
from targets.cortex_m import toolchain
from tests.firmware_tools import need_firmware_tools
from tests.schedules.mcu import conv2d_cases, depthwise_cases
from tests.schedules.mcu.test_nests import CORES, LAYERS, space_of

MORE = {  # whose borders the layers of the cost model's tests do not reach: windows much larger than the images
    "wide window": conv2d_cases.program(conv2d_cases.conv2d((7, 7, 40), 4, kernel=(7, 7), pad=(3, 3, 3, 3))),
    "long product": conv2d_cases.program(conv2d_cases.pointwise(3, 900, 2)),
    "tall": depthwise_cases.program(depthwise_cases.depthwise((200, 6, 2), pad=(1, 1, 1, 1))),
}
NAMES = {"m0": "cortex-m0", "m3": "cortex-m3", "m4": "cortex-m4", "m55": "cortex-m55"}
PROGRAMS = {name: program for name, program in {**LAYERS, **MORE}.items() if "float" not in name}


def most(op, default: int) -> int:
    """What a point may ask for where the default point asks for `default`."""
    if isinstance(op, FusedRows):
        first, last = op.depthwise, op.pointwise
        return max(first.height * first.width * first.channels + last.out_height * last.out_width * last.filters, default)
    return max(images(op), LEAST, default)


@pytest.mark.parametrize("layer", PROGRAMS)
@pytest.mark.parametrize("core", CORES)
def test_a_legal_point_has_room_and_compiles_and_an_illegal_one_has_none(core, layer, tmp_path, monkeypatch):
    need_firmware_tools()
    monkeypatch.setitem(LAYERS, layer, PROGRAMS[layer])
    space = space_of(core, layer)
    points = [dict(zip(space.knobs, values, strict=True)) for values in product(*space.knobs.values())]
    made = [space.apply(point).mod["main"].attrs for point in points]
    taken = [int(attributes["stack.scratch"]) for attributes in made]
    room = most(integer.read(PROGRAMS[layer]) or PROGRAMS[layer], taken[points.index(dict(space.default))])
    assert space.legal(space.default)
    assert [space.legal(point) for point in points] == [scratch <= room for scratch in taken]
    legal = [number for number, point in enumerate(points) if space.legal(point)]
    borders = {min(legal, key=taken.__getitem__), max(legal, key=taken.__getitem__)}
    sources = [str(made[number]["stack.c"]) for number in sorted(borders)]
    seen = [text.replace("static void KERNEL", "void KERNEL") for text in sources]  # else the compiler would drop them unread
    kernels = [text.replace("KERNEL", f"kernel{index}") for index, text in enumerate(seen)]
    file = tmp_path / "kernels.c"
    file.write_text("\n".join(["#include <stdint.h>", "#include <stddef.h>", "#include <string.h>", *used(sources), *kernels]))
    flags = toolchain.core_flags(NAMES[core], CORES[core].fpu)
    assert toolchain.compile_source(file, tmp_path, [*flags, *toolchain.OPTIMISE, *toolchain.PLAIN, "-Werror"]).is_file()
