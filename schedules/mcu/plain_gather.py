"""C that copies the windows of some pixels, side by side, to scratch memory: convolutions without the DSP extension read them there.

    for each tap of the kernel, for each channel: one word for each pixel, or for each two     int32 [reduction][words]

With `lane` a word holds two pixels: the first, plus 2^lane times the second. Beyond the last pixel that is repeated.
"""

from schedules.integer import Conv2D


def flat(op: Conv2D) -> bool:
    """Whether the window of a pixel is the pixel, so that windows lie one behind the other."""
    return op.kernel_h == op.kernel_w == 1 and op.strides == (1, 1) and not op.padded


def words(pixels: int, lane: int) -> int:
    """In one row of the patch."""
    return pixels // 2 if lane else pixels


def begin(op: Conv2D) -> str:
    """Variables that say which pixel is next."""
    if flat(op):
        return "  const int8_t *next = x;"
    border = f"  static const int8_t border = {op.x_zero};\n" if op.padded else ""
    return f"{border}  int32_t row = {-op.pad[0]}, column = {-op.pad[1]};"


def gather(op: Conv2D, pixels: int, lane: int) -> str:
    """Statements that fill `patch` with the windows of the next `pixels`, of which the first has the index `pixel`, and step over them."""
    count = words(pixels, lane)
    group = 2 if lane else pixels  # whose windows are copied together
    tail = op.pixels % pixels != 0
    lines = ["    int32_t *to = patch;"]
    if lane and count > 1:
        lines = [f"    for (int32_t at = 0; at < {count}; at++) {{", "      int32_t *to = patch + at;"]
    index = "pixel + 2 * at" if lane and count > 1 else "pixel"
    for i in range(group):
        more = f"if ({index} + {i + 1} < {op.pixels}) " if tail else ""
        lines += _place(op, i, more)
    lines += _copy(op, group, count, lane)
    if lane and count > 1:
        lines += ["    }"]
    return "\n".join(lines)


def _place(op: Conv2D, i: int, more: str) -> list[str]:
    """Where the window of pixel `i` begins; then step to the next pixel, if there is one."""
    if flat(op):
        return [f"      const int8_t *a{i} = next;", f"      {more}next += {op.channels};"]
    ends = [size * step - before for size, step, before in zip((op.out_height, op.out_width), op.strides, op.pad[:2], strict=True)]
    wrap = f"if ((column += {op.strides[1]}) == {ends[1]}) {{ column = {-op.pad[1]}; row += {op.strides[0]};"
    if op.batch > 1:
        wrap += f" if (row == {ends[0]}) {{ row = {-op.pad[0]}; x += {op.height * op.width * op.channels}; }}"
    return [
        f"      const int8_t *x{i} = x;",
        f"      int32_t row{i} = row, column{i} = column;",
        f"      {more}{{ {wrap} }} }}",
    ]


def _copy(op: Conv2D, group: int, count: int, lane: int) -> list[str]:
    pixels = range(group)
    steps = [f"step{i}" if op.padded else "1" for i in pixels]
    store = f"*to = (int32_t)((uint32_t)*a0 + ((uint32_t)*a1 << {lane}));" if lane else " ".join(f"to[{i}] = *a{i};" for i in pixels)
    advance = " ".join(f"a{i} += {step};" for i, step in zip(pixels, steps, strict=True))
    whole = not op.padded and op.dilation[1] == 1
    run = op.channels * (op.kernel_w if whole else 1)
    copy = f"for (int32_t c = 0; c < {run}; c++, to += {count}) {{ {store} {advance} }}"
    if flat(op):
        return [f"      {copy}"]
    lines = [f"      for (int32_t i = 0; i < {op.kernel_h * op.dilation[0]}; i += {op.dilation[0]}) {{"]
    if not whole:
        lines += [f"        for (int32_t j = 0; j < {op.kernel_w * op.dilation[1]}; j += {op.dilation[1]}) {{"]
    tap = "0" if whole else "j"
    for i in pixels:
        at = f"x{i} + ((row{i} + i) * {op.width} + column{i} + {tap}) * {op.channels}"
        if op.padded:
            lines += [f"          int32_t step{i} = (uint32_t)(row{i} + i) < {op.height}u && (uint32_t)(column{i} + j) < {op.width}u;"]
            at = f"step{i} ? {at} : &border"
        lines += [f"          const int8_t *a{i} = {at};"]
    return [*lines, f"          {copy}", "        }" if not whole else "", "      }"]
