"""One row of a 3x3 depthwise kernel for up to six neighbouring outputs, as C functions with one block of assembly each.

    stack_taps3x6:  36 taps... in 18 - 6 = 12 multiplications and three loads of two words
      w0, w1 = (tap 0, tap 1), (tap 1, tap 2);  p0, p1 = (pixel 0, pixel 1), (pixel 2, pixel 3)
      a0 += p0 * w0 + low(p1) * high(w1);   a1 += high(p0) * low(w0) + p1 * w1;   ...

The compiler would load each word as well, but not with so few registers: here a word of pixels gives up its register after its last use.
`_first` starts the sums from `bias`.
"""

from collections.abc import Iterator

MOST = 6  # outputs: their sums, three words of pixels, two of weights and two pointers are 13 registers


def products(outputs: int) -> Iterator[tuple[int, str, int, int]]:
    """Output, instruction, word of pixels and word of weights, in the order in which pixels come."""
    for output in range(outputs):
        word = output // 2
        if output % 2 == 0:
            yield output, "smlad", word, 0
            yield output, "smlabt", word + 1, 1
        else:
            yield output, "smlatb", word, 0
            yield output, "smlad", word + 1, 1


def name(outputs: int, first: bool) -> str:
    return f"stack_taps3x{outputs}" + ("_first" if first else "")


def assembly(outputs: int, first: bool) -> list[str]:
    lines = ["ldrd %[w0], %[w1], [%[w]], #8"]
    last_word = outputs // 2 + outputs % 2
    place: dict[int, str] = {}
    started = set()
    for output, instruction, word, weight in products(outputs):
        if word not in place:
            free = [f"%[p{i}]" for i in range(3) if f"%[p{i}]" not in [place.get(word - 1)]]
            place[word], place[word + 1] = free[:2]
            whole = word + 1 <= last_word
            lines.append(f"ldrd {free[0]}, {free[1]}, %[x{word}]" if whole else f"ldr {free[0]}, %[x{word}]")
        acc = f"%[a{outputs - 1 if first and output not in started else output}]"
        lines.append(f"{instruction} %[a{output}], {place[word]}, %[w{weight}], {acc}")
        started.add(output)
    return lines


def step(outputs: int, first: bool) -> str:
    """The C function."""
    text = "\n".join(f'    "{line}\\n\\t"' for line in assembly(outputs, first))
    sums = ", ".join(f'[a{i}] "{"=&" if first and i < outputs - 1 else "+"}r"(a[{i}])' for i in range(outputs))
    loads = ", ".join(f'[x{i}] "Uv"(*(const both *)(x + {i}))' for i in range(0, outputs // 2 + outputs % 2 + 1, 2))
    start = f"  a[{outputs - 1}] = bias;\n" if first else ""
    plain = "\n".join(
        f"  a[{output}] = stack_{instruction}(x[{word}], (*w)[{weight}], {'bias' if first and 2 * output == at else f'a[{output}]'});"
        for at, (output, instruction, word, weight) in enumerate(products(outputs))
    )
    return f"""\
/* 3 taps of {outputs} neighbouring outputs */
__attribute__((always_inline)) static inline void {name(outputs, first)}(
    const int32_t *x, const int32_t **w, {"int32_t bias, " if first else ""}int32_t *a) {{
#if defined(__ARM_FEATURE_DSP)
  typedef int64_t __attribute__((may_alias)) both;
  const int32_t *words = *w;
  int32_t p0, p1, p2, w0, w1;
{start}  __asm(
{text}
    : [w] "+r"(words), {sums},
      [p0] "=&r"(p0), [p1] "=&r"(p1), [p2] "=&r"(p2), [w0] "=&r"(w0), [w1] "=&r"(w1)
    : {loads}, "m"(*(const both *)words));
  *w = words;
#else
{plain}
  *w += 2;
#endif
}}"""


STEPS = {name(outputs, first): step(outputs, first) for outputs in range(1, MOST + 1) for first in (False, True)}
