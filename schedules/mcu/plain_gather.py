"""C that copies the windows of some pixels, side by side, to scratch memory: convolutions without the DSP extension read them there.

    for each tap of the kernel, for each channel: one word for each pixel, or for each two     int32 [reduction][words]

With `lane` a word holds two pixels: the first, plus 2^lane times the second. Beyond the last pixel that is repeated.
"""

from schedules.integer import Conv2D

MOST = 9  # products of a pixel in one turn of a loop


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
    lines += [f"      {line}" for line in _copy(op, group, count, lane)]
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
    """Copy the windows; those that lie in the image whole, or whose kernel is one row of a flat image, row by row."""
    if flat(op):
        return _run(op.channels, group, count, lane, ["1"] * group)
    if not op.padded:
        return _rows(op, group, count, lane)
    rows = op.height - (op.kernel_h - 1) * op.dilation[0]
    columns = op.width - (op.kernel_w - 1) * op.dilation[1]
    taps = _taps(op, group, count, lane)
    if rows < 1 or columns < 1:
        return taps
    inside = [f"(uint32_t)row{i} < {rows}u && (uint32_t)column{i} < {columns}u" for i in range(group)]
    return [f"if ({' && '.join(inside)}) {{", *_rows(op, group, count, lane), "} else {", *taps, "}"]


def _rows(op: Conv2D, group: int, count: int, lane: int) -> list[str]:
    """All of it in the image: one run for each row of the kernel, where its columns are neighbours."""
    whole = op.dilation[1] == 1
    lines = [f"for (int32_t i = 0; i < {op.kernel_h * op.dilation[0]}; i += {op.dilation[0]}) {{"]
    if not whole:
        lines += [f"for (int32_t j = 0; j < {op.kernel_w * op.dilation[1]}; j += {op.dilation[1]}) {{"]
    tap = "" if whole else " + j"
    for i in range(group):
        lines += [f"const int8_t *a{i} = x{i} + ((row{i} + i) * {op.width} + column{i}{tap}) * {op.channels};"]
    lines += _run(op.channels * (op.kernel_w if whole else 1), group, count, lane, ["1"] * group)
    return [*lines, "}" if whole else "} }"]


def _taps(op: Conv2D, group: int, count: int, lane: int) -> list[str]:
    """Tap by tap; a pointer to the border does not move."""
    lines = [
        f"for (int32_t i = 0; i < {op.kernel_h * op.dilation[0]}; i += {op.dilation[0]})",
        f"for (int32_t j = 0; j < {op.kernel_w * op.dilation[1]}; j += {op.dilation[1]}) {{",
    ]
    for i in range(group):
        at = f"x{i} + ((row{i} + i) * {op.width} + column{i} + j) * {op.channels}"
        lines += [
            f"int32_t step{i} = (uint32_t)(row{i} + i) < {op.height}u && (uint32_t)(column{i} + j) < {op.width}u;",
            f"const int8_t *a{i} = step{i} ? {at} : &border;",
        ]
    return [*lines, *_run(op.channels, group, count, lane, [f"step{i}" for i in range(group)]), "}"]


def _run(length: int, group: int, count: int, lane: int, steps: list[str]) -> list[str]:
    """Copy `length` neighbours of each pixel, some of them in one turn of a loop."""
    still = steps[0] != "1"
    turn = 1 if still else max(size for size in range(1, MOST + 1) if length % size == 0)
    stores = []
    for c in range(turn):
        if lane:
            stores.append(f"to[{c * count}] = (int32_t)((uint32_t)a0[{c}] + ((uint32_t)a1[{c}] << {lane}));")
        else:
            stores += [f"to[{c * count + i}] = a{i}[{c}];" for i in range(group)]
    advance = [f"a{i} += {step if still else turn};" for i, step in enumerate(steps)]
    body = " ".join([*stores, f"to += {turn * count};"])
    if turn == length:
        return [body]
    return [f"for (int32_t c = 0; c < {length}; c += {turn}) {{ {body} {' '.join(advance)} }}"]
