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
__attribute__((noinline)) static int32_t stack_requantize_apart(int32_t acc, int32_t multiplier, int32_t shift) {
  return stack_requantize(acc, multiplier, shift);
}""",
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
#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB == 1
  int32_t middle, m;
  __asm(".syntax unified\\n\\t"
    "lsrs %[middle], %[acc], #31\\n\\t"
    "lsls %[middle], %[middle], #15\\n\\t"
    "asrs %[acc], %[acc], #16\\n\\t"
    "mov %[m], %[m_low]\\n\\t"
    "muls %[m], %[acc]\\n\\t"
    "subs %[m], %[m], %[middle]\\n\\t"
    "mov %[middle], %[m_low]\\n\\t"
    "muls %[middle], %[low]\\n\\t"
    "lsrs %[middle], %[middle], #16\\n\\t"
    "adds %[middle], %[middle], %[m]\\n\\t"
    "add %[middle], %[round]\\n\\t"
    "mov %[m], %[m_high]\\n\\t"
    "muls %[acc], %[m]\\n\\t"
    "muls %[low], %[m]\\n\\t"
    "uxth %[m], %[middle]\\n\\t"
    "adds %[low], %[low], %[m]\\n\\t"
    "lsrs %[low], %[low], #16\\n\\t"
    "adds %[acc], %[acc], %[low]\\n\\t"
    "asrs %[middle], %[middle], #16\\n\\t"
    "adds %[acc], %[acc], %[middle]"
    : [acc] "+l"(acc), [low] "+l"(low), [middle] "=&l"(middle), [m] "=&l"(m)
    : [m_low] "r"(m_low), [m_high] "r"(m_high), [round] "r"(0x4000)
    : "cc");
  return (acc + half) >> right_1;
#else
  int32_t high = acc >> 16;
  int32_t middle = (int32_t)((low * m_low >> 16) + (uint32_t)high * m_low + 0x4000 - ((uint32_t)acc >> 31 << 15));
  uint32_t carry = (uint16_t)middle + low * m_high;
  return (int32_t)((uint32_t)high * m_high + (uint32_t)(middle >> 16) + (carry >> 16) + (uint32_t)half) >> right_1;
#endif
}""",
    "stack_sat8_compare": """\
/* v clipped to 8 bits with one comparison, where there is no SSAT */
static inline int8_t stack_sat8_compare(int32_t v) {
  uint32_t above = (uint32_t)v + 128u;
  if (above > 255u) above = v < 0 ? 0u : 255u;
  return (int8_t)(above - 128u);
}""",
}


def constants(op: Convolution) -> list[str]:
    """Statements that read bias, multiplier and shift of one filter from `k`."""
    lines = ["int32_t bias = k[0], multiplier = k[1], shift = k[2];"]
    return [*lines, "int32_t right = -shift - 1, half = right > 0 ? 1 << (right - 1) : 0;"] if op.right_shifts else lines


def outputs(op: Convolution, sums: Sequence[str], longs: bool, stride: int, count: str | None) -> list[str]:
    """Statements that store the outputs of one filter, from `sums` of neighbouring pixels with the bias, at o[0], o[stride] ...

    With `count` only the first that many are there. `longs` says that the machine multiplies to 64 bits.
    """
    values = [f"v{p}" for p in range(len(sums))]
    rescale = f"stack_rescale_{'long' if longs else 'halves'}"
    lines = [f"int32_t {', '.join(f'{v} = {total}' for v, total in zip(values, sums, strict=True))};"]
    apart = [f"{v} = stack_requantize_apart({v}, multiplier, shift);" for v in values]
    if op.right_shifts:
        fast = [f"{v} = {rescale}({v}, multiplier, half, right);" for v in values]
        lines += ["if (right > 0) {", *_indent(fast), "} else {", *_indent(apart), "}"]
    else:
        lines += apart
    clip = (
        f"stack_sat8{'' if longs else '_compare'}({{}})"
        if (op.low, op.high) == (-128, 127)
        else f"(int8_t)stack_clip({{}}, {op.low}, {op.high})"
    )
    zero = f"+ {op.y_zero}" if op.y_zero >= 0 else f"- {-op.y_zero}"
    stores = [f"o[{p * stride}] = {clip.format(f'{v} {zero}')};" for p, v in enumerate(values)]
    if count is None or len(stores) == 1:
        return [*lines, *stores]
    some = [f"if ({count} > {p}) {store}" if p else store for p, store in enumerate(stores)]
    return [*lines, f"if ({count} >= {len(stores)}) {{", *_indent(stores), "} else {", *_indent(some), "}"]


def _indent(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
