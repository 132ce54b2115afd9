"""Depthwise convolution channel by channel, over a copy of the channel's plane: two taps an instruction.

    for each channel:
      plane[] = its pixels as int16 pairs, with a border of zero points      so y may lie exactly over x
      for each filter of that channel:
        for each row of outputs, for each block of columns:
          for each row of the kernel: words of pixels and of weights loaded in pairs, each word of pixels used by all outputs that need it
          y = requantize(a0), requantize(a1), ...

Two neighbouring pixels lie in one word, so an output that begins at the upper half of a word pairs its taps the other way: kernel rows
are stored both ways, (w0, w1) and (w1, w2).
"""

from collections.abc import Iterator

from schedules.integer import Depthwise
from schedules.mcu import dsp_depthwise_steps
from schedules.mcu.dsp_depthwise_copy import Plane
from schedules.mcu.dsp_depthwise_scale import Scale
from schedules.mcu.kernel import Kernel

SCALE_WORDS = 2  # gain and offset, behind the weights of each filter; before them lies its bias
Taps = tuple[tuple[int, ...], ...]  # of each word of weights, its lower and upper tap; the upper one may be missing


def takes(op: Depthwise) -> bool:
    """Pixels next to each other must belong to neighbouring taps, and the rows of the kernel are written out."""
    return op.dilation[1] == 1 and op.kernel_h <= 12 and op.kernel_w <= 12


def weight_words(op: Depthwise) -> Taps:
    """The words of one row of the kernel: pairs from tap 0 on and, where outputs may begin at an odd pixel, from tap 1 on."""
    even = [(k, k + 1) for k in range(0, op.kernel_w - 1, 2)]
    odd = [(k, k + 1) for k in range(1, op.kernel_w - 1, 2)] if op.strides[1] % 2 else []
    last = op.kernel_w - 1
    single = [] if any(last in pair for pair in even + odd) else [(last,)]
    return (*even, *single, *odd)


def macs(begin: int, taps: int, words: Taps) -> Iterator[tuple[str, int, int]]:
    """Instruction, word of pixels and word of weights of each step of one output whose first pixel is `begin`."""
    tap = 0
    while tap < taps:
        pixel = begin + tap
        if pixel % 2 == 0 and (tap, tap + 1) in words:
            yield "stack_smlad", pixel // 2, words.index((tap, tap + 1))
            tap += 2
            continue
        word, half = next((i, pair.index(tap)) for i, pair in enumerate(words) if tap in pair)
        yield f"stack_smla{'bt'[pixel % 2]}{'bt'[half]}", pixel // 2, word
        tap += 1


def block(op: Depthwise, plane: Plane, scale: Scale, columns: int) -> list[str]:
    """The lines that compute and store `columns` neighbouring outputs."""
    words = weight_words(op)
    if op.kernel_w == 3 and op.strides[1] in dsp_depthwise_steps.STRIDES and columns <= dsp_depthwise_steps.MOST:
        return rows_of_three(op, plane, scale, columns)
    at = 1 + op.kernel_h * len(words)
    lines = [f"const int32_t bias = weights[0], gain = weights[{at}], offset = weights[{at + 1}];"]
    for ky in range(op.kernel_h):
        offset = ky * op.dilation[0] * plane.pitch
        steps = [list(macs(column * op.strides[1], op.kernel_w, words)) for column in range(columns)]
        used = 1 + max(word for column in steps for _, word, _ in column)
        lines += loads("w", f"weights + {1 + ky * len(words)}", len(words), ky)
        have = 0
        for column, column_steps in enumerate(steps):
            for name, x_word, w_word in column_steps:
                while x_word >= have:
                    lines += loads("p", f"from + {offset}", used, ky, have)
                    have += 2
                first = ky == 0 and (name, x_word, w_word) == column_steps[0]
                acc = "bias" if first else f"a{column}"
                lines.append(f"{'int32_t ' if first else ''}a{column} = {name}(p{ky}_{x_word}, w{ky}_{w_word}, {acc});")
    lines += [f"out[{column * op.filters}] = {scale.store(op, f'a{column}')};" for column in range(columns)]
    return lines


def rows_of_three(op: Depthwise, plane: Plane, scale: Scale, columns: int) -> list[str]:
    """The same for kernels three taps wide: one step a row."""
    lines = [f"int32_t a[{columns}], gain, offset;", "const int32_t *w = weights, bias = *w++;"]
    for ky in range(op.kernel_h):
        step, start = dsp_depthwise_steps.name(columns, op.strides[1], ky == 0), "bias, " if ky == 0 else ""
        lines.append(f"{step}(from + {ky * op.dilation[0] * plane.pitch}, &w, {start}a);")
    lines.append("stack_load_two(w, &gain, &offset);")
    return lines + [f"out[{column * op.filters}] = {scale.store(op, f'a[{column}]')};" for column in range(columns)]


def loads(kind: str, base: str, count: int, row: int, begin: int | None = None) -> list[str]:
    """Words `begin` and the next of `count`, or all."""
    lines = []
    for word in range(0, count, 2) if begin is None else [begin]:
        if word + 1 < count:
            lines.append(f"int32_t {kind}{row}_{word}, {kind}{row}_{word + 1};")
            lines.append(f"stack_load_two({base} + {word}, &{kind}{row}_{word}, &{kind}{row}_{word + 1});")
        else:
            lines.append(f"int32_t {kind}{row}_{word} = *({base} + {word});")
    return lines


def blocks(op: Depthwise, most: int) -> tuple[int, int, int]:
    """How many blocks of how many columns make a row, and how many columns are left; words of pixels must not be shared between blocks."""
    step = 2 if op.strides[1] % 2 else 1
    if op.out_width <= most:
        return 0, 0, op.out_width
    best = min(
        range(step, most + 1, step),
        key=lambda columns: (-(-op.out_width // columns), op.out_width % columns > 0, -columns),
    )
    return op.out_width // best, best, op.out_width % best


def kernel(op: Depthwise, scale: Scale, columns: int, rows: int) -> Kernel:
    """The C function: `columns` outputs at most share what is loaded, `rows` rows of them one filling of the plane."""
    plane = Plane(op, rows)
    words = 1 + len(weight_words(op)) * op.kernel_h + SCALE_WORDS
    x_step, y_step = (op.height * op.width - 1) * op.channels, (op.out_height * op.out_width - 1) * op.filters
    images = f"for (int32_t n = 0; n < {op.batch}; n++, weights -= {op.filters * words}, x += {x_step}, y += {y_step})"
    lines = [
        "static void KERNEL(const int8_t *x, const int32_t *weights, int8_t *y, int32_t *plane) {",
        f"  for (int32_t i = 0; i < {plane.words}; i++) plane[i] = {plane.border};",
        *([f"  {images}"] if op.batch > 1 else []),
        f"  for (int32_t c = 0; c < {op.channels}; c++, x++) {{",
        *(f"    {line}" for line in (whole(op, plane, scale, columns, words) if plane.whole else bands(op, plane, scale, columns, words))),
        "  }",
        "}",
    ]
    exact = plane.in_place()
    return Kernel("\n".join(lines) + "\n", scratch=4 * plane.words, overlap=0 if exact else None, exact=exact)


def whole(op: Depthwise, plane: Plane, scale: Scale, columns: int, words: int) -> list[str]:
    """The lines for one channel whose plane is copied at once."""
    return [
        *plane.fill(),
        f"for (int32_t m = 0; m < {op.filters // op.channels}; m++, y++, weights += {words}) {{",
        "  const int32_t *from = plane;",
        "  int8_t *out = y;",
        f"  for (int32_t i = 0; i < {op.out_height}; i++) {{",
        *(f"    {line}" for line in one_row(op, plane, scale, columns)),
        "  }",
        "}",
    ]


def bands(op: Depthwise, plane: Plane, scale: Scale, columns: int, words: int) -> list[str]:
    """The lines for one channel, and its one filter, band by band."""
    assert op.filters == op.channels
    left = (
        f"done + {plane.rows} < {op.out_height} ? done + {plane.rows} : {op.out_height}"
        if op.out_height % plane.rows
        else f"done + {plane.rows}"
    )
    return [
        "int8_t *out = y++;",
        f"for (int32_t done = 0; done < {op.out_height}; done += {plane.rows}) {{",
        *(f"  {line}" for line in plane.fill()),
        "  const int32_t *from = plane;",
        f"  for (int32_t i = done, end = {left}; i < end; i++) {{",
        *(f"    {line}" for line in one_row(op, plane, scale, columns)),
        "  }",
        "}",
        f"weights += {words};",
    ]


def one_row(op: Depthwise, plane: Plane, scale: Scale, columns: int) -> list[str]:
    """The lines for one row of outputs; `from` and `out` go to the next."""
    count, wide, rest = blocks(op, columns)
    advance = wide * op.strides[1] // 2
    lines = []
    if count:
        lines += [f"for (int32_t b = 0; b < {count}; b++, from += {advance}, out += {wide * op.filters}) {{"]
        lines += [f"  {line}" for line in block(op, plane, scale, wide)] + ["}"]
    if rest:
        lines += ["{", *(f"  {line}" for line in block(op, plane, scale, rest)), f"  out += {rest * op.filters};", "}"]
    return [*lines, f"from += {op.strides[0] * plane.pitch - count * advance};"]
