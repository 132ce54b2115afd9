"""The innermost step of convolutions on cores with the DSP extension, as C functions with one block of assembly each.

    stack_mac_3x2:  3 pixels x 2 filters x 4 products, 17 instructions for 24 products
      w -> {w0, w1};  x -> {x0, x1, x2}                          one LDM each
      a[p] += w0 * x[p]                                          SMLAD: two products of 16 bits
      w0 = its low bytes, sign-extended                          SXTB16
      b[p] += w0 * x[p];  the same once more with w1 and the next three x

Two filters share a word of weights: each half is 256 * A + B, for two neighbouring k. So `a` sums 256 * (sum of A) + (sum of B), of which
`b` knows the second, and unpacking costs one instruction for four products instead of two. Modulo 2^32 that is exact as long as the sum of
A fits in 24 bits. The steps named `_bytes` have no such limit: halves are the bytes A and B, and unpacking A costs one instruction more.

Pixels are int16 pairs, those of one pair of k next to each other, so that one instruction loads all of them. The step named `_direct` reads
one pixel from memory as it is. Registers are chosen for loads in ascending order; `a` and `b`, the two pointers and they are at most 13.
"""


def registers(first: int, count: int) -> list[str]:
    return [f"r{number}" for number in range(first, first + count)]


def assembly(pixels: int, pairs: int, packed: bool, direct: bool) -> tuple[list[str], int]:
    """The instructions of one step, and how many of the registers from r0 on they use. Operands: %0 x, %1 w, then a and b."""
    w_words = 2 * pairs if packed or pixels == 1 else pairs  # loaded at once
    w = registers(0, w_words)
    spare = [] if packed else registers(w_words, 1)
    x_words = 2 * pixels if pixels < 3 else pixels
    x = registers(w_words + len(spare), x_words)
    lines = []
    if direct:
        lines += [f"ldr {x[0]}, [%0], #4", f"sxtb16 {x[1]}, {x[0]}, ror #8", f"sxtb16 {x[0]}, {x[0]}"]
    for half in range(2):
        for pointer, names, per_half in (("%1", w, pairs), ("%0", x, pixels)):
            if (half == 0 or len(names) == per_half) and not (direct and pointer == "%0"):
                lines.append(f"ldmia {pointer}!, {{{', '.join(names)}}}" if len(names) > 1 else f"ldr {names[0]}, [{pointer}], #4")
        for pair in range(pairs):
            word = w[(half * pairs + pair) % len(w)]
            first = word
            if not packed:
                first = spare[0]
                lines.append(f"sxtb16 {first}, {word}, ror #8")
            for operand, value in ((2, first), (2 + pairs * pixels, word)):
                if operand > 2:
                    lines.append(f"sxtb16 {word}, {word}")
                for pixel in range(pixels):
                    acc = f"%{operand + pair * pixels + pixel}"
                    lines.append(f"smlad {acc}, {value}, {x[(half * pixels + pixel) % len(x)]}, {acc}")
    return lines, w_words + len(spare) + x_words


def name(pixels: int, pairs: int, packed: bool, direct: bool) -> str:
    return f"stack_mac_{pixels}x{2 * pairs}" + ("" if packed else "_bytes") + ("_direct" if direct else "")


def step(pixels: int, pairs: int, packed: bool, direct: bool) -> str:
    """The C function: assembly where the core has the instructions, the same sums in plain C elsewhere."""
    sums = pixels * pairs
    lines, used = assembly(pixels, pairs, packed, direct)
    text = "\n".join(f'    "{line}\\n\\t"' for line in lines)
    x_type = "int8_t" if direct else "int32_t"
    sums_of = [f"{array}{index}" for array in "ab" for index in range(sums)]
    outputs = ", ".join(f'"+r"({variable})' for variable in sums_of)
    free = [*(f"r{number}" for number in (*range(used, 7), *range(8, 13))), "lr"]
    before = "\n".join(
        f'  register {kind}{variable} __asm("{register}") = {value};'
        for (kind, variable, value), register in zip(
            [
                (f"const {x_type} *", "px", "*x"),
                ("const int32_t *", "pw", "*w"),
                *(("int32_t ", variable, f"{variable[0]}[{variable[1:]}]") for variable in sums_of),
            ],
            free,
            strict=False,
        )
    )
    after = ", ".join(f"{variable[0]}[{variable[1:]}] = {variable}" for variable in sums_of)
    clobbers = ", ".join(f'"{register}"' for register in registers(0, used))
    load = "int32_t u = stack_load4(*x), pair[2] = {stack_sxtb16(u), stack_sxtb16_ror8(u)};\n  *x += 4;" if direct else ""
    x_value = "pair[half]" if direct else f"(*x)[half * {pixels} + pixel]"
    first = "word" if packed else "stack_sxtb16_ror8(word)"
    return f"""\
/* {pixels} pixels x {2 * pairs} filters x 4 products{", a summing 256 * first + second filter" if packed else ""} */
__attribute__((always_inline)) static inline void {name(pixels, pairs, packed, direct)}(
    const {x_type} **x, const int32_t **w, int32_t *a, int32_t *b) {{
#if defined(__ARM_FEATURE_DSP)
{before}
  __asm(
{text}
    : "+r"(px), "+r"(pw), {outputs}
    :
    : {clobbers}, "memory");
  *x = px, *w = pw, {after};
#else
  {load}
  for (int half = 0; half < 2; half++)
    for (int pair_of_filters = 0; pair_of_filters < {pairs}; pair_of_filters++) {{
      int32_t word = *(*w)++, second = stack_sxtb16(word), first = {first};
      for (int pixel = 0; pixel < {pixels}; pixel++) {{
        int32_t value = {x_value}, i = pair_of_filters * {pixels} + pixel;
        a[i] = stack_smlad(first, value, a[i]), b[i] = stack_smlad(second, value, b[i]);
      }}
    }}
{"" if direct else f"  *x += {2 * pixels};{chr(10)}"}#endif
}}"""


TILES = ((3, 1), (2, 1), (1, 1), (1, 2))  # pixels, pairs of filters
STEPS = {
    name(pixels, pairs, packed, direct): step(pixels, pairs, packed, direct)
    for pixels, pairs in TILES
    for packed in (True, False)
    for direct in ((False, True) if pixels == 1 else (False,))
}
