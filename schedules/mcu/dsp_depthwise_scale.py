"""How a sum of products becomes an int8 output: the C expression and the constants of each filter. The first that suits a layer:

- line: SMMLAR and SSAT, with numbers found for each filter (see dsp_depthwise_fit); where no output lies below its zero point.
- rescale: SMMLAR, an addition, SMMLSR and SSAT; where all shifts are to the right.
- general: any shift, in C.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from schedules.integer import Depthwise
from schedules.mcu.dsp_depthwise_fit import SHIFT, fit
from schedules.space import Array

MOST_SUM = 1 << 12  # of abs(w): 5 x 5 taps. Within that a line is found for nearly every filter


@dataclass(frozen=True)
class Scale:
    """`value` is a C expression of acc, gain and offset. `pack` gives bias and these two, and by how much weights are shifted left."""

    value: str
    saturated: str
    pack: Callable[[Depthwise, Array, Array, Array, Array], tuple[Array, Array]]

    def store(self, op: Depthwise, acc: str) -> str:
        """The int8 output."""
        names = {"acc": acc, "zero": op.y_zero, "shift": SHIFT}
        if (op.low, op.high) == (-128, 127):
            return self.saturated.format(**names)
        return f"(int8_t)stack_clip({self.value.format(**names)}, {op.low}, {op.high})"


def pack_line(op: Depthwise, taps: Array, bias: Array, multiplier: Array, shift: Array) -> tuple[Array, Array]:
    below, above = (np.sort([-128 * taps, 127 * taps], axis=0)[i].sum(axis=1) for i in range(2))
    lines = [
        fit(int(bias[f]), int(below[f]), int(above[f]), int(multiplier[f]), int(shift[f]), op.y_zero, op.low, op.high)
        for f in range(op.filters)
    ]
    return np.array([[line.start, line.gain, line.offset] for line in lines]), np.array([line.scale for line in lines])


def pack_rescale(op: Depthwise, taps: Array, bias: Array, multiplier: Array, shift: Array) -> tuple[Array, Array]:
    wide = 2 * multiplier.astype(np.int64) - (1 << 32)
    return np.stack([bias, wide, -(np.int64(1) << (32 + shift.astype(np.int64)))], axis=1), np.zeros_like(shift)


def pack_general(op: Depthwise, taps: Array, bias: Array, multiplier: Array, shift: Array) -> tuple[Array, Array]:
    return np.stack([bias, multiplier, shift], axis=1), np.zeros_like(shift)


RESCALE = "stack_rescale({acc}, gain, offset, {zero})"
GENERAL = "stack_requantize({acc}, gain, offset) + ({zero})"
SCALES = {
    "line": Scale("stack_smmlar({acc}, gain, offset) >> {shift}", "stack_sat8_asr7(stack_smmlar({acc}, gain, offset))", pack_line),
    "rescale": Scale(RESCALE, f"stack_sat8({RESCALE})", pack_rescale),
    "general": Scale(GENERAL, f"stack_sat8({GENERAL})", pack_general),
}


def suitable(op: Depthwise) -> list[str]:
    """The names of the scales that compute `op`, best first."""
    line = op.right_shifts and op.y_zero <= op.low and op.weight_sum <= MOST_SUM
    return [*(["line"] if line else []), *(["rescale"] if op.right_shifts else []), "general"]
