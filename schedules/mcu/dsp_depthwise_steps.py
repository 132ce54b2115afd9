"""One row of a 3x3 depthwise kernel for up to six neighbouring outputs, as C functions with one block of assembly each.

    stack_taps3x6:  18 products in 12 multiplications and three loads of two words
      w0, w1 = (tap 0, tap 1), (tap 1, tap 2);  p0, p1 = (pixel 0, pixel 1), (pixel 2, pixel 3)
      a0 += p0 * w0 + low(p1) * high(w1);   a1 += high(p0) * low(w0) + p1 * w1;   ...

With `_stride2` every output begins at a lower half, and w1 is (tap 2, nothing). `_first` starts the sums from `bias`. The compiler would
load words in pairs as well, but not with so few registers: here a word of pixels gives up its register after its last use.
"""

from collections.abc import Iterator

MOST = 6  # outputs: their sums, three words of pixels, two of weights and two pointers are 13 registers
STRIDES = (1, 2)


def products(outputs: int, stride: int) -> Iterator[tuple[int, str, int, int]]:
    """Output, instruction, word of pixels and word of weights, in the order in which pixels come."""
    for output in range(outputs):
        word, half = divmod(output * stride, 2)
        yield output, "smlatb" if half else "smlad", word, 0
        yield output, "smlad" if half else "smlabt" if stride == 1 else "smlabb", word + 1, 1


def name(outputs: int, stride: int, first: bool) -> str:
    return f"stack_taps3x{outputs}" + ("_stride2" if stride == 2 else "") + ("_first" if first else "")


def pixel_words(outputs: int, stride: int) -> int:
    return ((outputs - 1) * stride + 3 + 1) // 2


def assembly(outputs: int, stride: int, first: bool) -> list[str]:
    lines = ["ldrd %[w0], %[w1], [%[w]], #8"]
    place: dict[int, str] = {}
    started = set()
    for output, instruction, word, weight in products(outputs, stride):
        if word not in place:
            one, other = (f"%[p{i}]" for i in range(3) if f"%[p{i}]" != place.get(word - 1)) if word else ("%[p0]", "%[p1]")
            place[word], place[word + 1] = one, other
            lines.append(f"ldrd {one}, {other}, %[x{word}]" if word + 1 < pixel_words(outputs, stride) else f"ldr {one}, %[x{word}]")
        acc = f"%[a{outputs - 1 if first and output not in started else output}]"
        lines.append(f"{instruction} %[a{output}], {place[word]}, %[w{weight}], {acc}")
        started.add(output)
    return lines


def step(outputs: int, stride: int, first: bool) -> str:
    """The C function."""
    text = "\n".join(f'    "{line}\\n\\t"' for line in assembly(outputs, stride, first))
    sums = ", ".join(f'[a{i}] "{"=&" if first and i < outputs - 1 else "+"}r"(a[{i}])' for i in range(outputs))
    loads = ", ".join(f'[x{i}] "Uv"(*(const both *)(x + {i}))' for i in range(0, pixel_words(outputs, stride), 2))
    start = f"  a[{outputs - 1}] = bias;\n" if first else ""
    plain = "\n".join(
        f"  a[{output}] = stack_{instruction}(x[{word}], (*w)[{weight}], {'bias' if first and 2 * output == at else f'a[{output}]'});"
        for at, (output, instruction, word, weight) in enumerate(products(outputs, stride))
    )
    return f"""\
/* 3 taps of {outputs} neighbouring outputs */
__attribute__((always_inline)) static inline void {name(outputs, stride, first)}(
    const int32_t *x, const int32_t **w, {"int32_t bias, " if first else ""}int32_t *a) {{
#if defined(__ARM_FEATURE_DSP) && defined(__OPTIMIZE__) && !defined(__clang__) /* others keep registers back */
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


STEPS = {
    name(outputs, stride, first): step(outputs, stride, first)
    for outputs in range(1, MOST + 1)
    for stride in STRIDES
    for first in (False, True)
}
