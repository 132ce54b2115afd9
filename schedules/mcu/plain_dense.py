"""Dense layers on cores without the DSP extension, and convolutions of one pixel that read a whole image: four filters at once.

    for each four filters: sums, four products for one load of weights and one of x         plain_dense_steps
      y = clip(requantize(sums))                                                            plain_rescale

On Thumb-2 a sum of 24 bits lies below another in 64 bits, on Thumb-1 above another in 32: long reductions are summed in parts.
"""

from collections.abc import Sequence

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule

from schedules import integer
from schedules.integer import Conv2D
from schedules.machine import Machine
from schedules.mcu import plain_rescale
from schedules.mcu.kernel import Kernel, as_schedule
from schedules.space import Array, Point, Space

FILTERS = 4
LONGEST = 256  # products of 8 bits unsigned and 8 bits signed whose sum stays below 2^23
LANE = 24


def plain_dense(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    """The rule: layers of one pixel without the DSP extension; on Thumb-1 with an even number of products and no weight of -128."""
    op = integer.read(program)
    if machine.dsp or not isinstance(op, Conv2D) or op.pixels != 1 or not whole(op):
        return None
    if not machine.thumb2 and (op.reduction % 2 or not op.narrow):
        return None

    def apply(point: Point) -> Schedule:
        return as_schedule(program, Kernel(source(op, machine.thumb2)))

    def pack(point: Point, constants: Sequence[Array]) -> list[Array]:
        return packed(op, machine.thumb2, constants)

    return Space("plain_dense", default={}, apply=apply, pack=pack)


def whole(op: Conv2D) -> bool:
    """Whether the only window is the beginning of the image."""
    rows = op.kernel_h == 1 or (op.kernel_w == op.width and op.dilation[0] == 1)
    return not op.padded and rows and (op.kernel_w == 1 or op.dilation[1] == 1)


def source(op: Conv2D, longs: bool) -> str:
    """The C function."""
    begin, totals = long_sums(op) if longs else short_sums(op)
    finish = []
    for f, total in enumerate(totals):
        exists = f"if (f + {f} < {op.filters}) " if op.filters % FILTERS and f else ""
        body = [*plain_rescale.constants(op), *plain_rescale.outputs(op, [f"bias + {total}"], longs, 1, None)]
        finish += [f"{exists}{{", *(f"  {line}" for line in body), "}", "k += 3, o++;"]
    text = "\n".join(f"    {line}" for line in [*begin, *finish])
    sum_x = f"""\
  int32_t sum = 0;
  for (int32_t i = 0; i < {op.reduction}; i++) sum += x[i];
"""
    return f"""\
static void KERNEL(const int8_t *x, const int32_t *w, const int32_t *k, int8_t *y) {{
{sum_x if longs else ""}  int8_t *o = y;
  for (int32_t f = 0; f < {op.filters}; f += {FILTERS}) {{
{text}
  }}
}}
"""


def long_sums(op: Conv2D) -> tuple[list[str], list[str]]:
    """Statements for Thumb-2 and what the four sums are; the weights of the low ones have 128 too much."""
    half = 1 << (LANE - 1)
    parts = -(-op.reduction // LONGEST)
    length = -(-op.reduction // (4 * parts)) * 4
    lines = ["int32_t s[] = {-128 * sum, 0, -128 * sum, 0};"]
    for begin in range(0, op.reduction, length):
        end = min(begin + length, op.reduction)
        fours = begin + (end - begin) // 4 * 4
        calls = [(4, begin, fours), (1, fours, end)]
        lines += ["{", f"  uint32_t low[] = {{{half}, {half}}};", "  int32_t high[] = {0, 0};"]
        lines += [f"  w = stack_long_dense_{turn}(x + {first}, x + {last}, w, low, high);" for turn, first, last in calls if first < last]
        for i in range(2):
            lines.append(f"  s[{2 * i}] += (int32_t)(low[{i}] & {2 * half - 1}) - {half};")
            lines.append(f"  s[{2 * i + 1}] += (int32_t)(low[{i}] >> {LANE} | (uint32_t)high[{i}] << {32 - LANE});")
        lines.append("}")
    return lines, [f"s[{i}]" for i in range(FILTERS)]


def short_sums(op: Conv2D) -> tuple[list[str], list[str]]:
    """The same for Thumb-1."""
    totals = ["s[0]", "stack_high24(s[1], s[0])", "s[2]", "stack_high24(s[3], s[2])"]
    if op.weight_sum <= 1 << 15:
        return ["int32_t s[4] = {0};", f"w = stack_short_dense(x, x + {op.reduction}, w, s);"], totals
    adds = " ".join(f"t[{i}] += {total};" for i, total in enumerate(totals))
    lines = [
        f"int32_t t[{FILTERS}] = {{0}};",
        f"for (int32_t i = 0; i < {op.reduction}; i += {LONGEST}) {{",
        f"  int32_t s[4] = {{0}}, end = i + {LONGEST} < {op.reduction} ? i + {LONGEST} : {op.reduction};",
        "  w = stack_short_dense(x + i, x + end, w, s);",
        f"  {adds}",
        "}",
    ]
    return lines, [f"t[{i}]" for i in range(FILTERS)]


def packed(op: Conv2D, longs: bool, constants: Sequence[Array]) -> list[Array]:
    """A word for each product and four filters; bias, multiplier and shift of each filter side by side."""
    w, *vectors = constants
    missing = -op.filters % FILTERS
    rows = np.pad(w.reshape(op.filters, op.reduction).astype(np.int64), ((0, missing), (0, 0)))
    a, b, c, d = (rows[i::FILTERS] for i in range(FILTERS))
    long_words = (a + 128) + 256 * (d % 256) + 65536 * (c + 128) + (b << 24)
    words = long_words if longs else (256 * b + a) % 65536 + 65536 * (256 * d + c)
    table = np.pad(np.stack(vectors, axis=1), ((0, missing), (0, 0)))
    return [np.ascontiguousarray(words.astype(np.int32)), table.astype(np.int32)]
