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


class Plane:
    """Where the pixels of a channel lie: `rows` of `pitch` words."""

    def __init__(self, op: Depthwise, columns: int):
        self.rows = (op.out_height - 1) * op.strides[0] + (op.kernel_h - 1) * op.dilation[0] + 1
        width = (op.out_width - 1) * op.strides[1] + op.kernel_w
        self.copied_rows = min(op.height, self.rows - op.pad[0])
        self.copied_columns = min(op.width, width - op.pad[1])
        self.pitch = (width + 1) // 2
        self.words = self.rows * self.pitch


def copy(op: Depthwise, plane: Plane) -> list[str]:
    """The lines that fill the inside of the plane: halves of words next to the border alone, others two words at a time."""
    left, stride = op.pad[1], op.channels
    first = left % 2  # pixel 0 goes to an upper half
    quads, rest = divmod(plane.copied_columns - first, 4)
    repeat = max((4, 5, 6), key=lambda count: (-(quads % count), count)) if quads > 6 else quads
    times, single = divmod(quads, repeat) if quads else (0, 0)

    def two(quad: int) -> str:
        words = ", ".join(f"stack_pkhbt({pixel(4 * quad + i)}, {pixel(4 * quad + i + 1)})" for i in (0, 2))
        return f"stack_store_two(to + {2 * quad}, {words});"

    def pixel(index: int) -> str:
        return f"from[{index * stride}]"

    inner = [two(quad) for quad in range(repeat)]
    if times > 1:
        inner = [
            f"for (int32_t j = 0; j < {times}; j++, from += {4 * repeat * stride}, to += {2 * repeat}) {{",
            *(f"  {line}" for line in inner),
            "}",
        ]
    moved = repeat if times > 1 else 0
    inner += [two(times * repeat - times * moved + quad) for quad in range(single)]
    done = quads - times * moved
    if rest >= 2:
        inner.append(f"to[{2 * done}] = stack_pkhbt({pixel(4 * done)}, {pixel(4 * done + 1)});")
    if rest % 2:
        inner.append(f"stack_store2(to + {2 * done + rest // 2}, {pixel(4 * done + rest - 1)});")
    if first:
        inner.insert(0, f"stack_store2((int8_t *)to - 2, from[{-stride}]);")
    back = times * moved
    next_row = f"from += {(op.width - 4 * back) * stride}, to += {plane.pitch - 2 * back}"
    return [
        f"    int32_t *to = plane + {op.pad[0] * plane.pitch + (left + 1) // 2};",
        f"    const int8_t *from = x + {first * stride};",
        *(["#pragma GCC unroll 2"] if quads <= 2 else []),
        f"    for (int32_t i = 0; i < {plane.copied_rows}; i++, {next_row}) {{",
        *(f"      {line}" for line in inner),
        "    }",
    ]


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


def kernel(op: Depthwise, scale: Scale, columns: int) -> Kernel:
    """The C function; `columns` outputs at most share what is loaded."""
    plane = Plane(op, columns)
    count, wide, rest = blocks(op, columns)
    words = len(weight_words(op)) * op.kernel_h
    multiplier = op.filters // op.channels
    border = f"(int32_t)0x{(op.x_zero & 0xFFFF) * 0x10001:08x}u"
    advance = wide * op.strides[1] // 2
    body = []
    if count:
        body += [f"for (int32_t b = 0; b < {count}; b++, from += {advance}, out += {wide * op.filters}) {{"]
        body += [f"  {line}" for line in block(op, plane, scale, wide)] + ["}"]
    if rest:
        body += ["{", *(f"  {line}" for line in block(op, plane, scale, rest)), f"  out += {rest * op.filters};", "}"]
    skip = op.strides[0] * plane.pitch - count * advance
    all_words = op.filters * (1 + words + SCALE_WORDS)
    x_step, y_step = (op.height * op.width - 1) * op.channels, (op.out_height * op.out_width - 1) * op.filters
    lines = [
        "static void KERNEL(const int8_t *x, const int32_t *weights, int8_t *y, int32_t *plane) {",
        f"  for (int32_t i = 0; i < {plane.words}; i++) plane[i] = {border};",
        f"  for (int32_t n = 0; n < {op.batch}; n++, weights -= {all_words}, x += {x_step}, y += {y_step})" if op.batch > 1 else None,
        f"  for (int32_t c = 0; c < {op.channels}; c++, x++) {{",
        *copy(op, plane),
        f"    for (int32_t m = 0; m < {multiplier}; m++, y++, weights += {1 + words + SCALE_WORDS}) {{",
        "      const int32_t *from = plane;",
        "      int8_t *out = y;",
        f"      for (int32_t i = 0; i < {op.out_height}; i++, from += {skip}) {{",
        *(f"        {line}" for line in body),
        "      }",
        "    }",
        "  }",
        "}",
    ]
    exact = multiplier == 1 and op.out_height * op.out_width <= op.height * op.width
    return Kernel(
        "\n".join(line for line in lines if line is not None) + "\n", scratch=4 * plane.words, overlap=0 if exact else None, exact=exact
    )
