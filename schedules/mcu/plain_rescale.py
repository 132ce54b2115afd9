"""Requantisation on cores without the DSP extension, for layers without left shifts: one multiplication, one shift.

    high = (acc * m + 2^30) / 2^31;  y = (high + (high < 0 ? -1 : 0) + 2^(right - 1)) / 2^right          divisions round down
      ->  y = (acc * m + 2^30 + 2^(right + 30) - (acc < 0 ? 2^31 : 0)) / 2^(right + 31)

A rounding division inside another is one division. `high` is negative where acc is, but where both forms give 0. From right = 2 on,
2^(right + 30) is a multiple of 2^32, and only the high word of the sum matters; smaller shifts go the long way.
"""

from collections.abc import Sequence

from schedules.integer import Convolution

RESCALES = {
    "stack_requantize_apart": """\
/* stack_requantize where it is rare: not inline, for small code */
__attribute__((noinline)) static int32_t stack_requantize_apart(int32_t acc, int32_t multiplier, int32_t shift) { return stack_requantize(acc, multiplier, shift); }""",
    "stack_rescale_long": """\
/* stack_requantize with half = 2^(right - 2) and right - 1, for right >= 2 */
static inline int32_t stack_rescale_long(int32_t acc, int32_t multiplier, int32_t half, int32_t right_1) {
  uint64_t round = (uint64_t)(uint32_t)(half + (acc >> 31)) << 32 | ((uint32_t)acc & 0x80000000u) | 0x40000000u;
  return (int32_t)(((int64_t)acc * multiplier + (int64_t)round) >> 32) >> right_1;
}""",
    "stack_rescale_halves": """\
/* the same from products of 16 bits, where there are no longer ones */
static inline int32_t stack_rescale_halves(int32_t acc, int32_t multiplier, int32_t half, int32_t right_1) {
  uint32_t low = (uint16_t)acc, m_low = (uint16_t)multiplier, m_high = (uint32_t)multiplier >> 16;
  int32_t high = acc >> 16;
  int32_t middle = (int32_t)((low * m_low >> 16) + (uint32_t)high * m_low + 0x4000 - ((uint32_t)acc >> 31 << 15));
  uint32_t carry = (uint16_t)middle + low * m_high;
  return (int32_t)((uint32_t)high * m_high + (uint32_t)(middle >> 16) + (carry >> 16) + (uint32_t)half) >> right_1;
}""",
}


def outputs(op: Convolution, sums: Sequence[str], longs: bool, strides: int, count: str | None) -> list[str]:
    """Statements that store the outputs of one filter, `sums` of neighbouring pixels, at o[0], o[strides] ...; `k` points to its
    bias, multiplier and shift. With `count` only the first that many are there."""
    values = [f"v{p}" for p in range(len(sums))]
    rescale = f"stack_rescale_{'long' if longs else 'halves'}"
    clip = "stack_sat8({})" if (op.low, op.high) == (-128, 127) else f"(int8_t)stack_clip({{}}, {op.low}, {op.high})"
    slow = [f"{v} = stack_requantize_apart({v}, multiplier, shift);" for v in values]
    lines = [
        "int32_t multiplier = k[1], shift = k[2];",
        f"int32_t {', '.join(f'{v} = k[0] + {total}' for v, total in zip(values, sums, strict=True))};",
    ]
    if op.right_shifts:
        lines += ["if (shift < -1) {", "  int32_t right = -shift - 1, half = 1 << (right - 1);"]
        lines += [f"  {v} = {rescale}({v}, multiplier, half, right);" for v in values]
        lines += ["} else {", *(f"  {line}" for line in slow), "}"]
    else:
        lines += slow
    stores = [
        f"o[{p * strides}] = {clip.format(f'{v} + {op.y_zero}' if op.y_zero >= 0 else f'{v} - {-op.y_zero}')};"
        for p, v in enumerate(values)
    ]
    if count is None or len(stores) == 1:
        return [*lines, *stores]
    guarded = [f"if ({count} > {p}) {store}" if p else store for p, store in enumerate(stores)]
    return [
        *lines,
        f"if ({count} >= {len(stores)}) {{",
        *(f"  {line}" for line in stores),
        "} else {",
        *(f"  {line}" for line in guarded),
        "}",
    ]
