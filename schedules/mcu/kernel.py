"""One C function for one program: what a rule of microcontrollers makes of a point.

A kernel takes, in order: the activations that its program reads, the packed constants that `Space.pack` made, the output, and where it
asked for scratch memory, that. Its source calls itself KERNEL, and intrinsics by their names in `intrinsics.py`.

    static void KERNEL(const int8_t *restrict x, const int8_t *w, const int32_t *scale, int8_t *y, int16_t *scratch) { ... }
"""

import json
from dataclasses import dataclass

from tvm import tirx
from tvm.s_tir import Schedule


@dataclass(frozen=True)
class Kernel:
    """`scratch` is in bytes, aligned to 4. `overlap` says how output may lie over the first activation, for the memory planner:

    None: not at all. A number d: it may, where y begins at least d bytes below x (a kernel that goes from the first pixel to the last
    reads ahead of what it writes). d <= 0 includes computing in place. `exact` allows only y beginning exactly d bytes below x.

    `include` is a header that declares what the source calls, where that is neither an intrinsic nor of the C library.
    """

    source: str
    scratch: int = 0
    overlap: int | None = None
    exact: bool = False
    include: str = ""


def as_schedule(program: tirx.PrimFunc, kernel: Kernel) -> Schedule:
    """The program with its kernel written on it: the emitter prints that instead of the loops."""
    attributes = {
        "stack.c": kernel.source,
        "stack.scratch": kernel.scratch,
        "stack.overlap": json.dumps({} if kernel.overlap is None else {"0": [kernel.overlap, kernel.exact]}),
    }
    if kernel.include:
        attributes["stack.include"] = kernel.include
    return Schedule(program.with_attrs(attributes))
