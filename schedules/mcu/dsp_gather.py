"""C that widens what one output reads to int16 pairs, for the steps of `dsp_steps`.

    u = stack_load4(r), q[0] = stack_sxtb16(u), q[3] = stack_sxtb16_ror8(u);      four bytes, with three pixels side by side in q

How windows that leave the image are read is in `dsp_border`.
"""

from schedules.mcu.dsp_border import copy_edge, read_taps, read_words
from schedules.mcu.dsp_widen import factor, four, indent, run
from schedules.mcu.dsp_window import Window

MOST_UNROLLED = 8  # fours of bytes in a window that is read without loops


def gather(window: Window, pixels: int) -> list[str]:
    """Statements that widen the windows of the next `pixels` outputs, and step to the one after.

    Where they lie in one row inside the image they are widened together, four bytes of each at a time.
    """
    op = window.op
    if window.contiguous and window.rest == 0:
        return [
            "{",
            *indent(["int32_t *q = scratch;", "const int8_t *s = x;", *side_by_side(window, pixels), *advance(window, pixels)]),
            "}",
        ]
    read = {"taps": read_taps, "word": read_words}.get(window.border, read_window)
    slot = [*read(window, pixels), *advance(window, 1)]
    if pixels == 1:
        return ["{", *indent(["int32_t *q = scratch;", *slot]), "}"]
    each = [
        f"for (int32_t *slot = scratch; slot != scratch + {pixels}; slot++) {{",
        *indent(["int32_t *q = slot;", *slot]),
        "}",
    ]
    last = op.width - window.columns - (pixels - 1) * op.strides[1]
    if window.by_taps or window.run < 4 or window.contiguous or last < 0 or op.height < window.rows:
        return each
    test = f"(uint32_t)column <= {last}u" + (f" && (uint32_t)row <= {op.height - window.rows}u" if op.pad[0] or op.pad[2] else "")
    start = [f"const int8_t *s = x + (row * {op.width} + column) * {op.channels};", "int32_t *q = scratch;"]
    return [
        f"if ({test}) {{",
        *indent([*start, *side_by_side(window, pixels), *advance(window, pixels)]),
        "} else {",
        *indent(each),
        "}",
    ]


def side_by_side(window: Window, pixels: int) -> list[str]:
    """The windows of `pixels` outputs in one row, the first from s on."""
    op, fours = window.op, window.run // 4
    stride, pitch = op.strides[1] * op.channels, op.width * op.channels * op.dilation[0]
    call = f"stack_widen_{pixels}(&s, &q, {stride});"
    unroll = factor(fours, 4)
    line = [call] * fours if fours <= 4 else [f"for (const int8_t *end = s + {4 * fours}; s != end;) {{", *indent([call] * unroll), "}"]
    if op.kernel_h > 1:
        line.append(f"s += {pitch - 4 * fours};")
        short = len(line) * op.kernel_h <= 2 * MOST_UNROLLED
        line = line * op.kernel_h if short else [f"for (int32_t i = 0; i < {op.kernel_h}; i++) {{", *indent(line), "}"]
    else:
        pitch = 4 * fours
    for pixel in range(pixels):
        rows = [f"s[{(row - op.kernel_h) * pitch + pixel * stride} + {{}}]" for row in range(op.kernel_h)]
        line += leftovers(window, pixels, rows, pixel)
    return line


def advance(window: Window, pixels: int) -> list[str]:
    """To the output after `pixels` in the same row: x where windows follow each other in memory, else its row and column in the image."""
    op = window.op
    if window.contiguous:
        return [f"x += {pixels * op.channels};"]
    step_h, step_w = op.strides
    top, left = op.pad[0], op.pad[1]
    lines = [f"if ((column += {pixels * step_w}) == {op.out_width * step_w - left}) {{", f"  column = {-left}, row += {step_h};"]
    if op.batch > 1:
        lines.append(f"  if (row == {op.out_height * step_h - top}) row = {-top}, x += {op.height * op.width * op.channels};")
    return [*lines, "}"]


def read_window(window: Window, pixels: int) -> list[str]:
    fours = window.run // 4
    if len(window.starts) * fours <= MOST_UNROLLED and not window.by_taps:
        return [*locate(window), *unrolled(window, pixels)]
    rows = [f"s[{row} * pitch + {{}}]" if row else "s[{}]" for row in range(window.op.kernel_h)]
    return [*locate(window), *runs(window, pixels), *leftovers(window, pixels, rows)]


def locate(window: Window) -> list[str]:
    """`s`, where the window begins, and `pitch`, the bytes from one row to the next."""
    op = window.op
    if window.contiguous:
        return ["const int8_t *s = x;"]
    inside = f"x + (row * {op.width} + column) * {op.channels}"
    pitch = op.width * op.channels * op.dilation[0]
    if not op.padded:
        return [f"const int8_t *s = {inside};", *([f"enum {{ pitch = {pitch} }};"] if op.kernel_h > 1 else [])]
    several = op.kernel_h > 1
    lines = ["const int8_t *s = edge;", *([f"int32_t pitch = {window.row_bytes};"] if several else [])]
    copy = indent(copy_edge(window))
    if op.height < window.rows or op.width < window.columns:
        return [*lines, "{", *copy, "}"]
    test = f"(uint32_t)row <= {op.height - window.rows}u && (uint32_t)column <= {op.width - window.columns}u"
    found = f"s = {inside}" + (f", pitch = {pitch};" if several else ";")
    return [*lines, f"if ({test}) {{", f"  {found}", "} else {", *copy, "}"]


def unrolled(window: Window, pixels: int) -> list[str]:
    """Row after row without loops."""
    fours = window.run // 4
    rows = [f"*r{row} = " + (f"r{row - 1} + pitch" if row else "s") for row in range(window.op.kernel_h)]
    lines = [f"const int8_t {', '.join(rows)};", *(["int32_t u;"] if fours else [])]
    for row in range(window.op.kernel_h):
        lines += [four(f"r{row}", 4 * at, 2 * pixels * (row * fours + at), pixels) for at in range(fours)]
    names = [f"r{row}[{{}}]" for row in range(window.op.kernel_h)]
    return lines + leftovers(window, pixels, names, 2 * pixels * window.op.kernel_h * fours)


def runs(window: Window, pixels: int) -> list[str]:
    """All runs, in loops; moves q on."""
    op, fours = window.op, window.run // 4
    if not fours:
        return []
    body = ["int32_t u;", *run("r", f"r + {4 * fours}", factor(fours, 4), pixels, once=fours <= 4)]
    if len(window.starts) == 1:
        return ["{", *indent(["const int8_t *r = s;", *body]), "}"]
    row = "s + i * pitch" if op.kernel_h > 1 else "s"
    if window.by_taps:
        start = f"const int8_t *r = {row} + tap * {op.dilation[1] * op.channels};"
        body = [f"for (int32_t tap = 0; tap < {op.kernel_w}; tap++) {{", *indent([start, *body]), "}"]
    else:
        body = [f"const int8_t *r = {row};", *body]
    return [f"for (int32_t i = 0; i < {op.kernel_h}; i++) {{", *indent(body), "}"] if op.kernel_h > 1 else body


def leftovers(window: Window, pixels: int, rows: list[str], at: int = 0) -> list[str]:
    """Bytes that are not read by fours, from q[at] on; `rows` says how to write a byte of each row of the kernel."""
    loose = [rows[row].format(byte) for row, byte, _ in window.leftovers]
    loose += ["0"] * (-len(loose) % 4)
    lines = []
    for first in range(0, len(loose), 4):
        a, b, c, d = loose[first : first + 4]
        lines.append(f"q[{at + first // 2 * pixels}] = stack_pack16({a}, {c});")
        lines.append(f"q[{at + (first // 2 + 1) * pixels}] = stack_pack16({b}, {d});")
    return lines
