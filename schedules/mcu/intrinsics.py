"""C functions of one or two instructions that kernels call by name; the emitter puts those that a model uses at the top of its file.

Each has the instruction where the compiler targets a core that has it, and portable C elsewhere, so that a model also runs, to the same
last bit, on the machine that compiles it.
"""

import re
from collections.abc import Iterable

from schedules.mcu import dsp_depthwise_steps, dsp_steps, plain_dense_steps, plain_rescale, plain_steps

INTRINSICS = {
    "stack_load4": """\
static inline int32_t stack_load4(const void *p) { int32_t v; memcpy(&v, p, 4); return v; }""",
    "stack_sxtb16": """\
/* bytes 0 and 2, sign-extended into the two halves */
static inline int32_t stack_sxtb16(int32_t v) {
#if defined(__ARM_FEATURE_DSP)
  int32_t r; __asm("sxtb16 %0, %1" : "=r"(r) : "r"(v)); return r;
#else
  return (int32_t)(((uint32_t)(int8_t)((uint32_t)v >> 16) << 16) | (uint16_t)(int8_t)v);
#endif
}""",
    "stack_sxtb16_ror8": """\
/* bytes 1 and 3, sign-extended into the two halves */
static inline int32_t stack_sxtb16_ror8(int32_t v) {
#if defined(__ARM_FEATURE_DSP)
  int32_t r; __asm("sxtb16 %0, %1, ror #8" : "=r"(r) : "r"(v)); return r;
#else
  return (int32_t)(((uint32_t)(int8_t)((uint32_t)v >> 24) << 16) | (uint16_t)(int8_t)((uint32_t)v >> 8));
#endif
}""",
    "stack_smlad": """\
/* acc + the products of the low halves and of the high halves */
static inline int32_t stack_smlad(int32_t a, int32_t b, int32_t acc) {
#if defined(__ARM_FEATURE_DSP)
  int32_t r; __asm("smlad %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc)); return r;
#else
  int32_t low = (int16_t)a * (int16_t)b, high = (int16_t)((uint32_t)a >> 16) * (int16_t)((uint32_t)b >> 16);
  return (int32_t)((uint32_t)acc + (uint32_t)low + (uint32_t)high);
#endif
}""",
    "stack_smlabb": """\
/* acc + the low half of a * the low half of b */
static inline int32_t stack_smlabb(int32_t a, int32_t b, int32_t acc) {
#if defined(__ARM_FEATURE_DSP)
  int32_t r; __asm("smlabb %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc)); return r;
#else
  return (int32_t)((uint32_t)acc + (uint32_t)((int16_t)a * (int16_t)b));
#endif
}""",
    "stack_smlabt": """\
/* acc + the low half of a * the high half of b */
static inline int32_t stack_smlabt(int32_t a, int32_t b, int32_t acc) {
#if defined(__ARM_FEATURE_DSP)
  int32_t r; __asm("smlabt %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc)); return r;
#else
  return (int32_t)((uint32_t)acc + (uint32_t)((int16_t)a * (int16_t)((uint32_t)b >> 16)));
#endif
}""",
    "stack_smlatb": """\
/* acc + the high half of a * the low half of b */
static inline int32_t stack_smlatb(int32_t a, int32_t b, int32_t acc) {
#if defined(__ARM_FEATURE_DSP)
  int32_t r; __asm("smlatb %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc)); return r;
#else
  return (int32_t)((uint32_t)acc + (uint32_t)((int16_t)((uint32_t)a >> 16) * (int16_t)b));
#endif
}""",
    "stack_smlatt": """\
/* acc + the high half of a * the high half of b */
static inline int32_t stack_smlatt(int32_t a, int32_t b, int32_t acc) {
#if defined(__ARM_FEATURE_DSP)
  int32_t r; __asm("smlatt %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc)); return r;
#else
  return (int32_t)((uint32_t)acc + (uint32_t)((int16_t)((uint32_t)a >> 16) * (int16_t)((uint32_t)b >> 16)));
#endif
}""",
    "stack_pkhbt": """\
/* the low halves of two numbers in one word */
static inline int32_t stack_pkhbt(int32_t low, int32_t high) {
#if defined(__ARM_FEATURE_DSP)
  int32_t r; __asm("pkhbt %0, %1, %2, lsl #16" : "=r"(r) : "r"(low), "r"(high)); return r;
#else
  return (int32_t)((uint32_t)high << 16 | (uint16_t)low);
#endif
}""",
    "stack_load_two": """\
/* two words with one instruction */
static inline void stack_load_two(const int32_t *p, int32_t *first, int32_t *second) {
#if defined(__ARM_FEATURE_DSP)
  typedef int64_t __attribute__((may_alias)) both;
  __asm("ldrd %0, %1, %2" : "=r"(*first), "=r"(*second) : "Uv"(*(const both *)p));
#else
  *first = p[0], *second = p[1];
#endif
}""",
    "stack_pack16": """\
/* two numbers of 16 bits in one word, the first in its low half */
static inline int32_t stack_pack16(int32_t low, int32_t high) { return (int32_t)((uint32_t)high << 16 | (uint16_t)low); }""",
    "stack_high24": """\
/* (a - b) / 256 modulo 2^32, for a that sums 256 * first + second and b that sums second */
static inline int32_t stack_high24(int32_t a, int32_t b) { return (int32_t)((uint32_t)a - (uint32_t)b) >> 8; }""",
    "stack_smmlar": """\
/* acc + the rounded upper half of a * b */
static inline int32_t stack_smmlar(int32_t a, int32_t b, int32_t acc) {
#if defined(__ARM_FEATURE_DSP)
  int32_t r; __asm("smmlar %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc)); return r;
#else
  return (int32_t)((uint32_t)acc + (uint32_t)(((int64_t)a * b + (1LL << 31)) >> 32));
#endif
}""",
    "stack_store_two": """\
/* two words with one instruction */
static inline void stack_store_two(int32_t *p, int32_t first, int32_t second) {
#if defined(__ARM_FEATURE_DSP)
  typedef int64_t __attribute__((may_alias)) both;
  __asm("strd %1, %2, %0" : "=Uv"(*(both *)p) : "r"(first), "r"(second));
#else
  p[0] = first, p[1] = second;
#endif
}""",
    "stack_store2": """\
static inline void stack_store2(void *p, int32_t v) { int16_t half = (int16_t)v; memcpy(p, &half, 2); }""",
    "stack_requantize": """\
/* acc * multiplier / 2^31 * 2^shift, rounded twice as TFLite Micro does: MultiplyByQuantizedMultiplier. multiplier >= 0 */
static inline int32_t stack_requantize(int32_t acc, int32_t multiplier, int32_t shift) {
  int32_t left = shift > 0 ? shift : 0, right = shift > 0 ? 0 : -shift, a = (int32_t)((uint32_t)acc << left);
#if defined(__ARM_FEATURE_DSP)
  int32_t high = stack_smmlar(a, (int32_t)((uint32_t)multiplier * 2), multiplier >> 30 ? a : 0); /* that bit of it is 2^32 */
#else
  int32_t high = (int32_t)(((int64_t)a * multiplier + (1 << 30)) >> 31);
#endif
  return right ? (int32_t)(high + (high >> 31) + (1 << (right - 1))) >> right : high;
}""",
    "stack_smmlsr": """\
/* acc - a * b / 2^32, rounded once */
static inline int32_t stack_smmlsr(int32_t a, int32_t b, int32_t acc) {
#if defined(__ARM_FEATURE_DSP)
  int32_t r; __asm("smmlsr %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc)); return r;
#else
  return (int32_t)((uint32_t)acc + (uint32_t)(((1LL << 31) - (int64_t)a * b) >> 32));
#endif
}""",
    "stack_rescale": """\
/* stack_requantize(acc, m, -e) + zero for e > 0, given 2 * m - 2^32 and -2^(32 - e): a + a * (2 * m - 2^32) / 2^32 = a * m / 2^31 */
static inline int32_t stack_rescale(int32_t acc, int32_t multiplier, int32_t power, int32_t zero) {
  int32_t high = stack_smmlar(acc, multiplier, acc);
  return stack_smmlsr(high + (high >> 31), power, zero);
}""",
    "stack_rescale_up": """\
/* stack_rescale where results below zero are clipped to zero or more: there ties need not be told apart */
static inline int32_t stack_rescale_up(int32_t acc, int32_t multiplier, int32_t power, int32_t zero) {
  return stack_smmlsr(stack_smmlar(acc, multiplier, acc), power, zero);
}""",
    "stack_sat8": """\
static inline int8_t stack_sat8(int32_t v) {
#if defined(__ARM_FEATURE_SAT)
  int32_t r; __asm("ssat %0, #8, %1" : "=r"(r) : "r"(v)); return (int8_t)r;
#else
  return (int8_t)(v < -128 ? -128 : v > 127 ? 127 : v);
#endif
}""",
    "stack_sat8_asr7": """\
/* v / 128, rounded down */
static inline int8_t stack_sat8_asr7(int32_t v) {
#if defined(__ARM_FEATURE_SAT)
  int32_t r; __asm("ssat %0, #8, %1, asr #7" : "=r"(r) : "r"(v)); return (int8_t)r;
#else
  return (int8_t)(v >> 7 < -128 ? -128 : v >> 7 > 127 ? 127 : v >> 7);
#endif
}""",
    "stack_high_mul": """\
/* a * b / 2^31, rounded: the product of Q0.31 numbers */
static inline int32_t stack_high_mul(int32_t a, int32_t b) { return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31); }""",
    "stack_divide_by_power": """\
/* v / 2^exponent, rounded, ties away from zero */
static inline int32_t stack_divide_by_power(int32_t v, int32_t exponent) {
  int32_t mask = (int32_t)((1u << exponent) - 1);
  return (v >> exponent) + ((v & mask) > (mask >> 1) + (v < 0));
}""",
    "stack_reciprocal": """\
/* 1 / (1 + v) for v in [0, 1), both Q0.31: three Newton steps in Q2.29 from the line 48/17 - 32/17 d */
static inline int32_t stack_reciprocal(int32_t v) {
  int32_t half = (int32_t)(((int64_t)v + INT32_MAX + 1) >> 1), r = stack_high_mul(half, -1010580540) + 1515870810;
  for (int step = 0; step < 3; ++step) {
    int64_t more = (int64_t)stack_high_mul(r, (1 << 29) - stack_high_mul(half, r)) * 4;
    r += (int32_t)(more > INT32_MAX ? INT32_MAX : more < INT32_MIN ? INT32_MIN : more);
  }
  return r > INT32_MAX / 2 ? INT32_MAX : r * 2;
}""",
    "stack_clip": """\
/* the bounds of int8 are one instruction on most cores, which compilers do not see inside loops */
static inline int32_t stack_clip(int32_t v, int32_t low, int32_t high) {
  return low == -128 && high == 127 ? stack_sat8(v) : v < low ? low : v > high ? high : v;
}""",
    "stack_clipf": """\
static inline float stack_clipf(float v, float low, float high) { return v < low ? low : v > high ? high : v; }""",
    "stack_min": """\
static inline int32_t stack_min(int32_t a, int32_t b) { return a < b ? a : b; }""",
    "stack_max": """\
static inline int32_t stack_max(int32_t a, int32_t b) { return a > b ? a : b; }""",
    "stack_min64": """\
static inline int64_t stack_min64(int64_t a, int64_t b) { return a < b ? a : b; }""",
    "stack_max64": """\
static inline int64_t stack_max64(int64_t a, int64_t b) { return a > b ? a : b; }""",
    "stack_minf": """\
static inline float stack_minf(float a, float b) { return a < b ? a : b; }""",
    "stack_maxf": """\
static inline float stack_maxf(float a, float b) { return a > b ? a : b; }""",
    "stack_floordiv": """\
/* a / b rounded down */
static inline int32_t stack_floordiv(int32_t a, int32_t b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0)); }""",
    "stack_floormod": """\
/* what a division rounded down leaves: it has the sign of b */
static inline int32_t stack_floormod(int32_t a, int32_t b) { return a % b != 0 && (a % b < 0) != (b < 0) ? a % b + b : a % b; }""",
    "stack_floordiv64": """\
static inline int64_t stack_floordiv64(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0)); }""",
    "stack_floormod64": """\
static inline int64_t stack_floormod64(int64_t a, int64_t b) { return a % b != 0 && (a % b < 0) != (b < 0) ? a % b + b : a % b; }""",
    "stack_macf": """\
/* acc + a * b, in one instruction where there is one */
static inline float stack_macf(float acc, float a, float b) {
#if defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, acc);
#else
  return acc + a * b;
#endif
}""",
    "stack_sigmoidf": """\
static inline float stack_sigmoidf(float x) { return 1.0f / (1.0f + expf(-x)); }""",
    "stack_float_of_bits": """\
static inline float stack_float_of_bits(int32_t bits) { float v; memcpy(&v, &bits, 4); return v; }""",
    "stack_bits_of_float": """\
static inline int32_t stack_bits_of_float(float v) { int32_t bits; memcpy(&bits, &v, 4); return bits; }""",
    **dsp_steps.STEPS,
    **dsp_depthwise_steps.STEPS,
    **plain_rescale.RESCALES,
    **plain_steps.STEPS,
    **plain_dense_steps.STEPS,
}  # fmt: skip


def used(sources: Iterable[str]) -> list[str]:
    """The definitions of all intrinsics that `sources` call, themselves or through another, in the order of the table."""
    wanted: set[str] = set()
    words = {word for source in sources for word in words_of(source)}
    while found := (words & INTRINSICS.keys()) - wanted:
        wanted |= found
        words = {word for name in found for word in words_of(INTRINSICS[name])}
    return [text for name, text in INTRINSICS.items() if name in wanted]


def words_of(source: str) -> list[str]:
    """The words of C code, without those of its comments."""
    return re.findall(r"\w+", re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL))
