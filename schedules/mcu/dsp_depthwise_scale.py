"""How a sum of products becomes an int8 output: the C expression and the constants of each filter.

- "general": shifts of both directions, any clip.
- "rescale": every shift to the right, three instructions before the clip.
"""

from dataclasses import dataclass

import numpy as np

from schedules.integer import Depthwise
from schedules.space import Array


@dataclass(frozen=True)
class Scale:
    """`words` of constants a filter: the bias, then what the expression names."""

    op: Depthwise

    words = 3

    def declare(self, pointer: str, at: int) -> str:
        return f", multiplier = {pointer}[{at}], power = {pointer}[{at + 1}]"

    def requantize(self, acc: str) -> str:
        op = self.op
        if op.right_shifts:
            value = f"stack_rescale({acc}, multiplier, power, {op.y_zero})"
            if (op.low, op.high) == (-128, 127):
                return f"stack_sat8({value})"
        else:
            value = f"stack_requantize({acc}, multiplier, power) + ({op.y_zero})"
        return f"(int8_t)stack_clip({value}, {op.low}, {op.high})"

    def pack(self, bias: Array, multiplier: Array, shift: Array) -> Array:
        if not self.op.right_shifts:
            return np.stack([bias, multiplier, shift], axis=1)
        wide = 2 * multiplier.astype(np.int64) - (1 << 32)
        return np.stack([bias, wide, -(np.int64(1) << (32 + shift.astype(np.int64)))], axis=1)
