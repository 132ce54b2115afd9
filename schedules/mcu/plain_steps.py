"""The innermost loops of convolutions on cores without the DSP extension, as C functions with one block of assembly each.

A word of `in` holds two pixels, far enough apart that a product with a weight is two products:

    (x0 + 2^b * x1) * w = x0 * w + 2^b * (x1 * w)

- `stack_long_sums_PxF_byN` (Thumb-2): b = 23, sums of 64 bits hold a whole reduction. P words x F filters x N products a turn.
- `stack_short_sums_2` (Thumb-1, no long multiplication): b = 16, the sum of two products fits in a half; then halves are added up apart.
  One filter, 2 words x 4 products a turn, weights by fours in one word.
"""

LONG = ((1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1))  # words, filters
MOST_TAPS = 3  # that are loaded at once
TURN = 4  # products of one turn: reductions are padded to multiples of it
TURNS = (4, 8)


def long_sums(words: int, filters: int, turn: int) -> str:
    """The C function with 64-bit sums: low and high words of those of each filter, one word of pixels after the other."""
    count = words * filters
    x = [f"%[x{p}]" for p in range(words)] if words < 3 else [f"r{p}" for p in range(words)]
    load = {1: "ldr %[x0], [%[in]], #4", 2: "ldrd %[x0], %[x1], [%[in]], #8"}.get(words, f"ldmia %[in]!, {{{', '.join(x)}}}")
    step = [load]
    for f in range(filters):
        step.append("ldrsb %[t], [%[w]], #1")
        step += [f"smlal %[l{i}], %[h{i}], {x[p]}, %[t]" for p in range(words) for i in [f * words + p]]
    lines = ["0:", *step * turn, "ldr %[t], %[end]", "cmp %[in], %[t]", "bne 0b"]
    outputs = [f'[{half[0]}{i}] "+r"({half}[{i}])' for half in ("low", "high") for i in range(count)]
    temporaries = [("t", "t"), *([(f"x{p}", f"x{p}") for p in range(words)] if words < 3 else [])]
    return f"""\
/* low, high: sums of {words} words of in, up to end, times the weights of {filters} filters */
__attribute__((always_inline)) static inline const int8_t *stack_long_sums_{words}x{filters}_by{turn}(
    const int32_t *in, const int32_t *end, const int8_t *w, uint32_t *low, int32_t *high) {{
#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB == 2
  int32_t {", ".join(name for name, _ in temporaries)};
  __asm volatile(
{_text(lines)}
    : [in] "+r"(in), [w] "+r"(w), {", ".join(outputs)}, {", ".join(f'[{name}] "=&r"({value})' for name, value in temporaries)}
    : [end] "m"(end)
    : {", ".join(f'"{register}"' for register in x if register[0] == "r")}{", " if words > 2 else ""}"cc", "memory");
#else
  for (; in != end; in += {words}, w += {filters})
    for (int32_t i = 0; i < {count}; i++) {{
      int64_t sum = (int64_t)((uint64_t)(uint32_t)high[i] << 32 | low[i]) + (int64_t)in[i % {words}] * w[i / {words}];
      low[i] = (uint32_t)sum, high[i] = (int32_t)(sum >> 32);
    }}
#endif
  return w;
}}"""


def short_sums() -> str:
    """The C function with sums of halves: s[0] and s[1] of the first word, s[2] and s[3] of the second.

    It takes all low registers, r7 too, which may be the frame pointer and so cannot be named as an operand.
    """
    word, weight, x, pair = "r2", "r3", ("r4", "r5"), ("r6", "r7")
    lines = [".syntax unified", "push {r7}", "0:", f"ldmia %[w]!, {{{word}}}"]
    for k in range(TURN):
        used = weight if k < TURN - 1 else word
        if k:
            lines.append(f"asrs {word}, {word}, #8")
        if k < TURN - 1:
            lines.append(f"sxtb {weight}, {word}")
        into = x if k % 2 else pair
        lines.append(f"ldmia %[in]!, {{{into[0]}, {into[1]}}}")
        for p in range(2):
            lines.append(f"muls {into[p]}, {used}")
            if k % 2:
                lines.append(f"adds {pair[p]}, {x[p]}")
        if k % 2:
            for p in range(2):
                lines += [f"sxth {weight}, {pair[p]}", f"add %[s{2 * p}], {weight}", f"subs {pair[p]}, {weight}"]
                lines += [f"asrs {pair[p]}, {pair[p]}, #16", f"add %[s{2 * p + 1}], {pair[p]}"]
    lines += ["cmp %[in], %[end]", "bne 0b", "pop {r7}"]
    return f"""\
/* s: sums of the halves of 2 words of in, up to end, times the weights of one filter */
__attribute__((always_inline)) static inline const int8_t *stack_short_sums_2(
    const int32_t *in, const int32_t *end, const int8_t *w, int32_t *s) {{
#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB == 1 && !defined(__OPTIMIZE_SIZE__) /* -Os: GCC gives no r8 to r11 */
  register const int32_t *p __asm("r0") = in;
  register const int8_t *q __asm("r1") = w;
  int32_t s0 = s[0], s1 = s[1], s2 = s[2], s3 = s[3];
  __asm volatile(
{_text(lines)}
    : [in] "+l"(p), [w] "+l"(q), {", ".join(f'[s{i}] "+h"(s{i})' for i in range(4))}
    : [end] "h"(end)
    : "r2", "r3", "r4", "r5", "r6", "cc", "memory");
  s[0] = s0, s[1] = s1, s[2] = s2, s[3] = s3;
  return q;
#else
  for (; in != end; in += 2, w++)
    for (int32_t i = 0; i < 2; i++) {{
      int32_t first = (int16_t)in[i];
      s[2 * i] += first * *w, s[2 * i + 1] += ((in[i] - first) >> 16) * *w;
    }}
  return w;
#endif
}}"""


def long_taps(taps: int) -> str:
    """The C function for one row of a depthwise kernel, whose weights are words too."""
    w, z = [f"r{4 + i}" for i in range(3)], [f"r{8 + i}" for i in range(3)]
    if taps == 1:
        lines = [f"ldr {w[0]}, [%[w]], #4", f"ldr {z[0]}, [%[z]], #4"]
    else:
        lines = [f"ldmia %[w]!, {{{', '.join(w[:taps])}}}", f"ldmia %[z]!, {{{', '.join(z[:taps])}}}"]
    lines += [f"smlal %[low], %[high], {z[i]}, {w[i]}" for i in range(taps)]
    return f"""\
/* the sum of low and high, plus {taps} words of z times words of w; both move on */
__attribute__((always_inline)) static inline void stack_long_taps_{taps}(
    const int32_t **z, const int32_t **w, uint32_t *low, int32_t *high) {{
#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB == 2
  __asm(
{_text(lines)}
    : [z] "+r"(*z), [w] "+r"(*w), [low] "+r"(*low), [high] "+r"(*high)
    :
    : {", ".join(f'"{register}"' for register in w[:taps] + z[:taps])}, "memory");
#else
  for (int32_t i = 0; i < {taps}; i++) {{
    int64_t sum = (int64_t)((uint64_t)(uint32_t)*high << 32 | *low) + (int64_t)*(*z)++ * *(*w)++;
    *low = (uint32_t)sum, *high = (int32_t)(sum >> 32);
  }}
#endif
}}"""


def short_taps(taps: int) -> str:
    """The same with one pixel a word, and sums of 32 bits."""
    z = [f"r{3 + i}" for i in range(taps)]
    w = ["r2", "r6", "r2"]
    pair = w[: min(taps, 2)]
    lines = [".syntax unified", f"ldmia %[z]!, {{{', '.join(z)}}}", f"ldmia %[w]!, {{{', '.join(pair)}}}"]
    for i in range(taps):
        if i == 2:
            lines.append(f"ldmia %[w]!, {{{w[i]}}}")
        lines += [f"muls {z[i]}, {w[i]}", f"add %[sum], {z[i]}"]
    return f"""\
/* sum, plus {taps} words of z times words of w; both move on */
__attribute__((always_inline)) static inline void stack_short_taps_{taps}(const int32_t **z, const int32_t **w, int32_t *sum) {{
#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB == 1
  __asm(
{_text(lines)}
    : [z] "+l"(*z), [w] "+l"(*w), [sum] "+h"(*sum)
    :
    : {", ".join(f'"{register}"' for register in [*z, *pair])}, "cc", "memory");
#else
  for (int32_t i = 0; i < {taps}; i++) *sum += *(*z)++ * *(*w)++;
#endif
}}"""


def _text(lines: list[str]) -> str:
    return "\n".join(f'    "{line}\\n\\t"' for line in lines)


STEPS = {f"stack_long_sums_{p}x{f}_by{turn}": long_sums(p, f, turn) for p, f in LONG for turn in TURNS}
STEPS |= {"stack_short_sums_2": short_sums()}
STEPS |= {f"stack_long_taps_{taps}": long_taps(taps) for taps in range(1, MOST_TAPS + 1)}
STEPS |= {f"stack_short_taps_{taps}": short_taps(taps) for taps in range(1, MOST_TAPS + 1)}
