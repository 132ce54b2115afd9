"""The innermost step of convolutions on cores with the DSP extension, as C functions with one block of assembly each.

    stack_mac_3x2:  3 pixels x 2 filters x 4 products, 17 instructions for 24 products
      w -> {w0, w1};  x -> {x0, x1, x2}                          one LDM each
      a[p] += w0 * x[p]                                          SMLAD: two products of 16 bits
      w0 = its low bytes, sign-extended                          SXTB16
      b[p] += w0 * x[p];  the same once more with w1 and the next three x

Two filters share a word of weights: each half is 256 * A + B, for one k. So `a` sums 256 * (sum of A) + (sum of B), of which
`b` knows the second, and unpacking costs one instruction for four products instead of two. Modulo 2^32 that is exact as long as the sum of
A fits in 24 bits. The steps named `_bytes` have no such limit: halves are the bytes A and B, and unpacking A costs one instruction more.

Pixels are int16 pairs, those of one pair of k next to each other, so that one instruction loads all of them. The step named `_direct` reads
one pixel from memory as it is. `stack_first_...` is the first step of a sum: the accumulator of the last pixel holds where all pixels of
a filter begin. Registers are named, since compilers do not find 13 by themselves and loads of several need them in ascending order.
"""

from dataclasses import dataclass
from itertools import product

# r7 is the frame pointer of builds without optimisation
FREE = (*(f"r{number}" for number in (*range(7), *range(8, 13))), "lr")


@dataclass(frozen=True)
class Step:
    """`pairs` of filters over `pixels`; `shared` packing, `direct` reading and `first` are as above."""

    pixels: int
    pairs: int
    shared: bool
    direct: bool = False
    first: bool = False

    @property
    def name(self) -> str:
        start = "stack_first" if self.first else "stack_mac"
        return f"{start}_{self.pixels}x{2 * self.pairs}" + ("" if self.shared else "_bytes") + ("_direct" if self.direct else "")

    @property
    def x_type(self) -> str:
        return "int8_t" if self.direct else "int32_t"

    @property
    def sums(self) -> list[str]:
        """The accumulators, as they are called in C."""
        return [f"{array}[{index}]" for array in "ab" for index in range(self.pairs * self.pixels)]

    def begins(self, index: int) -> int:
        """The accumulator from which the one of this index begins, in a first step."""
        return index // self.pixels * self.pixels + self.pixels - 1

    def assembly(self) -> tuple[list[str], dict[str, str]]:
        """The instructions, and in which registers they expect x, w and the sums. The registers before those are free for them to use."""
        pixels, pairs = self.pixels, self.pairs
        loaded_w = 2 * pairs if self.shared or pixels == 1 else pairs  # words by one instruction
        loaded_x = 2 * pixels if pixels < 3 else pixels
        w, spare, x = FREE[:loaded_w], "" if self.shared else FREE[loaded_w], FREE[loaded_w + (not self.shared) :][:loaded_x]
        used = loaded_w + bool(spare) + loaded_x
        place = dict(zip(("px", "pw", *self.sums), FREE[used:], strict=False))
        lines = []
        if self.direct:
            lines += [f"ldr {x[0]}, [{place['px']}], #4", f"sxtb16 {x[1]}, {x[0]}, ror #8", f"sxtb16 {x[0]}, {x[0]}"]
        for half in range(2):
            for pointer, names, per_half in (("pw", w, pairs), ("px", x, pixels)):
                if (half == 0 or len(names) == per_half) and not (self.direct and pointer == "px"):
                    load = (
                        f"ldmia {place[pointer]}!, {{{', '.join(names)}}}" if len(names) > 1 else f"ldr {names[0]}, [{place[pointer]}], #4"
                    )
                    lines.append(load)
            for pair in range(pairs):
                word = w[(half * pairs + pair) % len(w)]
                if spare:
                    lines.append(f"sxtb16 {spare}, {word}, ror #8")
                for array, value in (("a", spare or word), ("b", word)):
                    if array == "b":
                        lines.append(f"sxtb16 {word}, {word}")
                    for index in range(pair * pixels, (pair + 1) * pixels):
                        acc = place[f"{array}[{index}]"]
                        old = place[f"{array}[{self.begins(index)}]"] if self.first and half == 0 else acc
                        lines.append(f"smlad {acc}, {value}, {x[(half * pixels + index % pixels) % len(x)]}, {old}")
        return lines, place

    def definition(self) -> str:
        """The C function: assembly where the core has the instructions, the same sums in plain C elsewhere."""
        lines, place = self.assembly()
        begun = [place[sum_] for index, sum_ in enumerate(self.sums) if not self.first or self.begins(index) == index]
        held = {"px": ("const " + self.x_type + " *px", "*x"), "pw": ("const int32_t *pw", "*w")}
        held |= {sum_: ("int32_t " + register_name(sum_), sum_) for sum_ in self.sums}
        declared = [
            f'  register {held[value][0]} __asm("{register}")'
            + (f" = {held[value][1]};" if register in begun or value in ("px", "pw") else ";")
            for value, register in place.items()
        ]
        outputs = [
            f'"{"+" if register in begun or value in ("px", "pw") else "="}r"({register_name(value)})' for value, register in place.items()
        ]
        results = ["*x = px", "*w = pw", *(f"{sum_} = {register_name(sum_)}" for sum_ in self.sums)]
        clobbers = [f'"{register}"' for register in FREE[: FREE.index(place["px"])]]
        newline = "\n"
        return f"""\
/* {self.pixels} pixels x {2 * self.pairs} filters x 4 products{", a summing 256 * first + second filter" if self.shared else ""} */
__attribute__((always_inline)) static inline void {self.name}(const {self.x_type} **x, const int32_t **w, int32_t *a, int32_t *b) {{
#if defined(__ARM_FEATURE_DSP)
{newline.join(declared)}
  __asm(
{newline.join(f'    "{line};"' for line in lines)}
    : {", ".join(outputs)}
    :
    : {", ".join(clobbers)}, "memory");
  {", ".join(results)};
#else
{self.portable()}
#endif
}}"""

    def portable(self) -> str:
        load = "  int32_t u = stack_load4(*x), u_pair[2] = {stack_sxtb16(u), stack_sxtb16_ror8(u)};\n" if self.direct else ""
        value = "u_pair[half]" if self.direct else f"(*x)[half * {self.pixels} + pixel]"
        first = "word" if self.shared else "stack_sxtb16_ror8(word)"
        old = f"half ? i : pair * {self.pixels} + {self.pixels - 1}" if self.first else "i"
        return f"""\
{load}  for (int half = 0; half < 2; half++)
    for (int pair = 0; pair < {self.pairs}; pair++) {{
      int32_t word = *(*w)++, second = stack_sxtb16(word), first = {first};
      for (int pixel = 0; pixel < {self.pixels}; pixel++) {{
        int32_t value = {value}, i = pair * {self.pixels} + pixel, old = {old};
        a[i] = stack_smlad(first, value, a[old]), b[i] = stack_smlad(second, value, b[old]);
      }}
    }}
  *x += {4 if self.direct else 2 * self.pixels};"""


def register_name(value: str) -> str:
    """a[0] -> a0"""
    return value.replace("[", "").replace("]", "")


def widen(pixels: int) -> str:
    """Four bytes of each of `pixels` windows, `stride` bytes apart, to two words of each."""
    others = ("ldr r1, [%0, %2]", "ldr r2, [%0, %2, lsl #1]")[: pixels - 1]
    data = FREE[:pixels], FREE[pixels : 2 * pixels]
    lines = [
        *others,
        "ldr r0, [%0], #4",
        *(f"sxtb16 {odd}, {even}, ror #8" for even, odd in zip(*data, strict=True)),
        *(f"sxtb16 {even}, {even}" for even in data[0]),
        f"stmia %1!, {{{', '.join(FREE[: 2 * pixels])}}}",
    ]
    newline = "\n"
    return f"""\
/* four bytes of {pixels} pixels, `stride` bytes apart, to int16 pairs (0, 2) and (1, 3) */
__attribute__((always_inline)) static inline void stack_widen_{pixels}(const int8_t **s, int32_t **q, int32_t stride) {{
#if defined(__ARM_FEATURE_DSP)
  register const int8_t *ps __asm("r6") = *s;
  register int32_t *pq __asm("r8") = *q;
  register int32_t apart __asm("r9") = stride;
  __asm volatile(
{newline.join(f'    "{line};"' for line in lines)}
    : "+r"(ps), "+r"(pq)
    : "r"(apart)
    : {", ".join(f'"{register}"' for register in FREE[: 2 * pixels])}, "memory");
  *s = ps, *q = pq;
#else
  for (int pixel = 0; pixel < {pixels}; pixel++, ++*q) {{
    int32_t u = stack_load4(*s + pixel * stride);
    (*q)[0] = stack_sxtb16(u), (*q)[{pixels}] = stack_sxtb16_ror8(u);
  }}
  *s += 4, *q += {pixels};
#endif
}}"""


TILES = ((3, 1), (2, 1), (1, 1), (1, 2))  # pixels, pairs of filters
FLAGS = product((True, False), (True, False), (True, False))  # shared, direct, first
STEPS = {
    step.name: step.definition()
    for step in (Step(pixels, pairs, *flags) for (pixels, pairs), flags in product(TILES, FLAGS))
    if not (step.direct if step.pixels > 1 else step.first)
}
STEPS |= {f"stack_widen_{pixels}": widen(pixels) for pixels in (1, 2, 3)}
