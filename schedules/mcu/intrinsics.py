"""C functions of one or two instructions that kernels call by name; the emitter puts those that a model uses at the top of its file.

Each has the instruction where the compiler targets a core that has it, and portable C elsewhere, so that a model also runs, to the same
last bit, on the machine that compiles it.
"""

import re
from collections.abc import Iterable

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
    "stack_requantize": """\
/* acc * multiplier / 2^31 * 2^shift, rounded twice as TFLite Micro does: MultiplyByQuantizedMultiplier */
static inline int32_t stack_requantize(int32_t acc, int32_t multiplier, int32_t shift) {
  int32_t left = shift > 0 ? shift : 0, right = shift > 0 ? 0 : -shift;
  int32_t high = (int32_t)(((int64_t)(int32_t)((uint32_t)acc << left) * multiplier + (1 << 30)) >> 31);
  return right ? (int32_t)(high + (high >> 31) + (1 << (right - 1))) >> right : high;
}""",
    "stack_clip": """\
static inline int32_t stack_clip(int32_t v, int32_t low, int32_t high) { return v < low ? low : v > high ? high : v; }""",
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
    "stack_sigmoidf": """\
static inline float stack_sigmoidf(float x) { return 1.0f / (1.0f + expf(-x)); }""",
    "stack_float_of_bits": """\
static inline float stack_float_of_bits(int32_t bits) { float v; memcpy(&v, &bits, 4); return v; }""",
    "stack_bits_of_float": """\
static inline int32_t stack_bits_of_float(float v) { int32_t bits; memcpy(&bits, &v, 4); return bits; }""",
}  # fmt: skip


def used(sources: Iterable[str]) -> list[str]:
    """The definitions of all intrinsics that `sources` call, themselves or through another, in the order of the table."""
    wanted: set[str] = set()
    words = {word for source in sources for word in re.findall(r"\w+", source)}
    while found := (words & INTRINSICS.keys()) - wanted:
        wanted |= found
        words = {word for name in found for word in re.findall(r"\w+", INTRINSICS[name])}
    return [text for name, text in INTRINSICS.items() if name in wanted]
