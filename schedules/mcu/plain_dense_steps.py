"""The innermost loops of dense layers on cores without the DSP extension: one pixel, four filters to a word of weights.

- `stack_long_dense_N` (Thumb-2): bytes A, D, C, B of a word, A and C plus 128. Masked, they are A + 2^24 * B and, rotated, C + 2^24 * D:
  one long multiply-accumulate makes two products.
- `stack_short_dense` (Thumb-1): halves 256 * B + A and 256 * D + C. A half is multiplied as it is, its low byte on its own, and the sum of
  B is the difference of the two: no half needs its high byte taken out.
"""


def long_dense(turn: int) -> str:
    """The C function that takes `turn` products a turn."""
    step = ["ldrsb %[t], [%[x]], #1", "ldr %[word], [%[w]], #4"]
    for i, rotated in enumerate(("", ", ror #16")):
        step += [f"and %[pair], %[mask], %[word]{rotated}", f"smlal %[l{i}], %[h{i}], %[pair], %[t]"]
    lines = ["0:", *step * turn, "cmp %[x], %[end]", "bne 0b"]
    return f"""\
/* low, high: sums of x, up to end, times the weights of four filters, A and B in the first, C and D in the second */
__attribute__((always_inline)) static inline const int32_t *stack_long_dense_{turn}(
    const int8_t *x, const int8_t *end, const int32_t *w, uint32_t *low, int32_t *high) {{
#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB == 2
  int32_t t, word, pair;
  __asm volatile(
{_text(lines)}
    : [x] "+r"(x), [w] "+r"(w), [l0] "+r"(low[0]), [l1] "+r"(low[1]), [h0] "+r"(high[0]), [h1] "+r"(high[1]),
      [t] "=&r"(t), [word] "=&r"(word), [pair] "=&r"(pair)
    : [end] "r"(end), [mask] "r"(0xff0000ffu)
    : "cc", "memory");
#else
  for (; x != end; x++, w++)
    for (int32_t i = 0; i < 2; i++) {{
      uint32_t word = i ? (uint32_t)*w >> 16 | (uint32_t)*w << 16 : (uint32_t)*w;
      int64_t sum = (int64_t)((uint64_t)(uint32_t)high[i] << 32 | low[i]) + (int64_t)(int32_t)(word & 0xff0000ffu) * *x;
      low[i] = (uint32_t)sum, high[i] = (int32_t)(sum >> 32);
    }}
#endif
  return w;
}}"""


def short_dense() -> str:
    """The C function, two products of each filter a turn."""
    step = ["ldrsb %[t], [%[x{i}], %[at]]", "ldmia %[w]!, {{%[word]}}"]
    for taken, i in (("sxtb", 0), ("sxth", 1), ("sxtb", 2)):
        step += ["asrs %[word], %[word], #16"] if i == 2 else []
        step += [f"{taken} %[h], %[word]", "muls %[h], %[t]", f"add %[s{i}], %[h]"]
    step += ["muls %[word], %[t]", "add %[s3], %[word]"]
    body = [line.replace("{i}", str(i)).replace("{{", "{").replace("}}", "}") for i in range(2) for line in step]
    lines = [".syntax unified", "0:", *body, "adds %[at], %[at], #2", "bne 0b"]
    return f"""\
/* s: sums of x, up to end, times the weights of four filters: A, first halves, C, second halves */
__attribute__((always_inline)) static inline const int32_t *stack_short_dense(
    const int8_t *x, const int8_t *end, const int32_t *w, int32_t *s) {{
  int32_t at = (int32_t)(x - end);
#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB == 1 && !defined(__OPTIMIZE_SIZE__) /* -Os: GCC gives no r8 to r11 */
  int32_t t, word, h, s0 = s[0], s1 = s[1], s2 = s[2], s3 = s[3];
  __asm volatile(
{_text(lines)}
    : [w] "+l"(w), [at] "+l"(at), {", ".join(f'[s{i}] "+h"(s{i})' for i in range(4))},
      [t] "=&l"(t), [word] "=&l"(word), [h] "=&l"(h)
    : [x0] "l"(end), [x1] "l"(end + 1)
    : "cc", "memory");
  s[0] = s0, s[1] = s1, s[2] = s2, s[3] = s3;
#else
  for (; at; at++, w++) {{
    int32_t words[] = {{(int8_t)*w, (int16_t)*w, (int8_t)(*w >> 16), *w >> 16}};
    for (int32_t i = 0; i < 4; i++) s[i] = (int32_t)((uint32_t)s[i] + (uint32_t)words[i] * (uint32_t)end[at]);
  }}
#endif
  return w;
}}"""


def _text(lines: list[str]) -> str:
    return "\n".join(f'    "{line}\\n\\t"' for line in lines)


STEPS = {"stack_long_dense_4": long_dense(4), "stack_long_dense_1": long_dense(1), "stack_short_dense": short_dense()}
