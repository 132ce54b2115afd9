"""Convolutions and dense layers on cores without the DSP extension: tiles of filters and pixels over windows copied to scratch memory.

    for each `pixels` pixels: copy their windows, side by side
      for each `filters` filters: for each product: pixels + filters loads, pixels * filters multiplications

Thumb-2 has a long multiply-accumulate: there a word holds two pixels 23 bits apart, and one instruction adds two products.
"""

from collections.abc import Sequence

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule

from schedules import integer
from schedules.integer import Conv2D
from schedules.machine import Machine
from schedules.mcu import plain_gather
from schedules.mcu.kernel import Kernel, as_schedule
from schedules.space import Array, Point, Space

LANE = 23


def plain_conv(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    """The rule: every convolution, where the machine has no DSP extension."""
    op = integer.read(program)
    if machine.dsp or not isinstance(op, Conv2D):
        return None
    lane = LANE if machine.thumb2 and op.pixels > 1 and fits(op) else 0
    default = {"pixels": min(4 if lane else 2, op.pixels + op.pixels % 2 if lane else op.pixels), "filters": 2}
    knobs = {"pixels": (2, 4, 6) if lane else (1, 2, 3), "filters": (1, 2, 3, 4)}

    def apply(point: Point) -> Schedule:
        return as_schedule(program, kernel(op, int(point["pixels"]), int(point["filters"]), lane))

    def pack(point: Point, constants: Sequence[Array]) -> list[Array]:
        return packed(op, int(point["filters"]), constants)

    return Space("plain_conv", default=default, knobs=knobs, apply=apply, pack=pack)


def fits(op: Conv2D) -> bool:
    """Whether sums of one lane stay below half of 2^LANE, whatever the activations."""
    return min(op.weight_sum, 128 * op.reduction) * 128 < 1 << (LANE - 1)


def kernel(op: Conv2D, pixels: int, filters: int, lane: int) -> Kernel:
    """The kernel of one point."""
    words = plain_gather.words(pixels, lane)
    sums = [(f, p) for f in range(filters) for p in range(words)]
    kind = "int64_t" if lane else "int32_t"
    zero = f"{kind} " + ", ".join(f"s{f}{p} = 0" for f, p in sums) + ";"
    load = " ".join([f"int32_t x{p} = in[{p}];" for p in range(words)] + [f"int32_t w{f} = weight[{f}];" for f in range(filters)])
    add = " ".join(f"s{f}{p} += ({kind})w{f} * x{p};" for f, p in sums)
    finish = "\n".join(_finish(op, f, pixels, filters, lane) for f in range(filters))
    source = f"""\
static void KERNEL(const int8_t *x, const int8_t *w, const int32_t *constants, int8_t *y, int32_t *patch) {{
{plain_gather.begin(op)}
  for (int32_t pixel = 0; pixel < {op.pixels}; pixel += {pixels}, y += {op.filters * pixels}) {{
{plain_gather.gather(op, pixels, lane)}
    const int8_t *weight = w;
    const int32_t *constant = constants;
    for (int32_t f = 0; f < {op.filters}; f += {filters}, constant += {3 * filters}) {{
      {zero}
      for (const int32_t *in = patch; in < patch + {op.reduction * words}; in += {words}, weight += {filters}) {{
        {load}
        {add}
      }}
{finish}
    }}
  }}
}}
"""
    return Kernel(source, scratch=4 * words * op.reduction)


def _finish(op: Conv2D, f: int, pixels: int, filters: int, lane: int) -> str:
    """Requantise and store the outputs of filter `f` of a tile, those that exist."""
    scale = " ".join(f"int32_t {name} = constant[{3 * f + i}];" for i, name in enumerate(("bias", "multiplier", "shift")))
    stores = []
    for p in range(pixels):
        total = f"s{f}{p}"
        if lane:
            word = f"s{f}{p // 2}"
            low = f"(int32_t)((uint32_t){word} << {32 - lane}) >> {32 - lane}"
            total = f"(int32_t)(({word} + {1 << (lane - 1)}) >> {lane})" if p % 2 else f"({low})"
        value = f"stack_clip(stack_requantize(bias + {total}, multiplier, shift) + ({op.y_zero}), {op.low}, {op.high})"
        exists = f"if (pixel + {p} < {op.pixels}) " if op.pixels % pixels and p else ""
        stores += [f"        {exists}y[f + {f + p * op.filters}] = (int8_t){value};"]
    guard = f"      if (f + {f} < {op.filters}) {{" if op.filters % filters and f else "      {"
    return "\n".join([guard, f"        {scale}", *stores, "      }"])


def packed(op: Conv2D, filters: int, constants: Sequence[Array]) -> list[Array]:
    """Weights of each tile of filters product by product; bias, multiplier and shift of each filter side by side."""
    w, *vectors = constants
    missing = -op.filters % filters
    rows = np.pad(w.reshape(op.filters, op.reduction), ((0, missing), (0, 0)))
    table = np.pad(np.stack(vectors, axis=1), ((0, missing), (0, 0)))
    return [np.ascontiguousarray(rows.reshape(-1, filters, op.reduction).swapaxes(1, 2)), table.astype(np.int32)]
