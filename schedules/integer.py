"""What an integer program computes, as data: the integer pass writes it on the program, the rules of microcontrollers read it.

    program.attrs["stack.integer"] = '{"op": "conv2d", "height": 49, ...}'   <->   Conv2D(height=49, ...)

Programs without this attribute are scheduled by what their loops say.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from tvm import tirx

ATTRIBUTE = "stack.integer"


@dataclass(frozen=True)
class Convolution:
    """What conv2d and depthwise share: int8 NHWC images, int8 weights, int32 accumulators, requantisation per filter.

    Parameters of the program, in order: x int8 [batch, height, width, channels], w int8, bias int32 [filters], multiplier int32 [filters],
    shift int32 [filters], y int8 [batch, out_height, out_width, filters].

        acc = bias + sum of x * w                   x as stored, its zero point is folded into bias; beyond the border x is `x_zero`
        y = clip(requantize(acc, multiplier, shift) + y_zero, low, high)

    `requantize` is TFLite Micro's MultiplyByQuantizedMultiplier with two roundings; a positive shift is to the left. `pad` is top, left,
    bottom, right. The last three say for which shortcuts there is room: `right_shifts` that every shift is below 0, `narrow` that no
    weight is -128, `weight_sum` bounds sum(abs(w)) of any filter (rounded up to a power of two, so that alike layers share a program).
    """

    batch: int
    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    filters: int
    kernel_h: int
    kernel_w: int
    strides: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int, int, int]
    x_zero: int
    y_zero: int
    low: int
    high: int
    right_shifts: bool
    narrow: bool
    weight_sum: int

    @property
    def pixels(self) -> int:
        return self.batch * self.out_height * self.out_width

    @property
    def padded(self) -> bool:
        return any(self.pad)


@dataclass(frozen=True)
class Conv2D(Convolution):
    """w is [filters, kernel_h, kernel_w, channels]. A dense layer is one with a 1x1 kernel, and a pixel for each row."""

    @property
    def reduction(self) -> int:
        """Products in one output."""
        return self.kernel_h * self.kernel_w * self.channels

    @property
    def macs(self) -> int:
        return self.pixels * self.filters * self.reduction

    @property
    def parts(self) -> "tuple[Conv2D]":
        return (self,)


@dataclass(frozen=True)
class Depthwise(Convolution):
    """w is [1, kernel_h, kernel_w, filters]; filter f reads channel f // (filters // channels)."""

    @property
    def macs(self) -> int:
        return self.pixels * self.filters * self.kernel_h * self.kernel_w

    @property
    def parts(self) -> "tuple[Depthwise]":
        return (self,)


@dataclass(frozen=True)
class FusedRows:
    """A depthwise convolution and the 1x1 convolution after it, a few rows at a time, so that what lies between is never whole.

    Parameters of the program: x, then w, bias, multiplier and shift of the depthwise convolution, those of the other, y.
    """

    depthwise: Depthwise
    pointwise: Conv2D

    @property
    def macs(self) -> int:
        return self.depthwise.macs + self.pointwise.macs

    @property
    def parts(self) -> "tuple[Depthwise, Conv2D]":
        return self.depthwise, self.pointwise


Description = Conv2D | Depthwise | FusedRows
KINDS: dict[str, type[Conv2D] | type[Depthwise] | type[FusedRows]] = {"conv2d": Conv2D, "depthwise": Depthwise, "fused_rows": FusedRows}


def describe(program: tirx.PrimFunc, op: Description) -> tirx.PrimFunc:
    """`program` with `op` written on it."""
    name = next(name for name, kind in KINDS.items() if isinstance(op, kind))
    return program.with_attr(ATTRIBUTE, json.dumps({"op": name, **asdict(op)}))


def read(program: tirx.PrimFunc) -> Description | None:
    """What is written on `program`, None where nothing is."""
    if not program.attrs or ATTRIBUTE not in program.attrs:
        return None
    entry = json.loads(str(program.attrs[ATTRIBUTE]))
    kind = KINDS[entry.pop("op")]
    if kind is FusedRows:
        return FusedRows(Depthwise(**values(entry["depthwise"])), Conv2D(**values(entry["pointwise"])))
    return kind(**values(entry))


def values(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
