"""C that widens windows which may leave the image, where x is its zero point, in one of three ways.

taps   whole taps of a multiple of four channels: constants before, bytes of the image, constants behind
word   rows of four bytes: the nearest word inside the image, shifted, the border or-ed in
edge   anything: rows copied side by side, x_zero elsewhere, and read from there as if they were the image
"""

from schedules.mcu.dsp_widen import factor, indent, run
from schedules.mcu.dsp_window import Window


def read_taps(window: Window, pixels: int) -> list[str]:
    op = window.op
    top, left, bottom, right = op.pad
    pair = ((op.x_zero & 0xFFFF) * 0x10001 ^ 1 << 31) - (1 << 31)
    fours = op.channels // 4

    def fill(taps: str) -> str:
        return f"for (int32_t n = {taps}; n; n--) q[0] = border, q[{pixels}] = border, q += {2 * pixels};"

    lines, taps = [f"const int32_t border = {pair}; /* {op.x_zero} twice */"], f"{op.kernel_w}"
    if left:
        lines.append("int32_t before = column < 0 ? -column : 0;")
        taps += " - before"
    if right:
        lines.append(f"int32_t behind = column > {op.width - op.kernel_w} ? column - {op.width - op.kernel_w} : 0;")
        taps += " - behind"
    lines.append(f"const int8_t *line = x + (row * {op.width} + column{' + before' if left else ''}) * {op.channels};")
    body = ["int32_t u;", "const int8_t *r = line;"]
    if top or bottom:
        all_taps = fill(str(op.kernel_w * fours))
        body += [f"if ((uint32_t)i >= {op.height}u) {{", f"  {all_taps}", "  continue;", "}"]
    if left:
        body.append(fill(f"before * {fours}"))
    body += run("r", f"line + ({taps}) * {op.channels}", factor(fours, 4), pixels)
    if right:
        body.append(fill(f"behind * {fours}"))
    step = op.dilation[0]
    loop = f"for (int32_t i = row; i != row + {op.kernel_h * step}; i += {step}, line += {op.width * op.channels * step}) {{"
    return [*lines, loop, *indent(body), "}"]


def read_words(window: Window, pixels: int) -> list[str]:
    op = window.op
    last, step = op.width * op.channels - 4, op.dilation[0]
    zeros = f"0x{(op.x_zero & 0xFF) * 0x01010101:08x}u"
    return [
        f"int32_t at = column * {op.channels}, from = stack_clip(at, 0, {last});",
        "int32_t up = from > at ? 8 * (from - at) : 0, down = at > from ? 8 * (at - from) : 0;",
        f"uint32_t border = {zeros} & ~(0xffffffffu << up >> down);",
        f"for (int32_t i = row; i != row + {op.kernel_h * step}; i += {step}) {{",
        f"  uint32_t u = {zeros};",
        f"  if ((uint32_t)i < {op.height}u) u = ((uint32_t)stack_load4(x + i * {op.width * op.channels} + from) << up >> down) | border;",
        f"  q[0] = stack_sxtb16((int32_t)u), q[{pixels}] = stack_sxtb16_ror8((int32_t)u), q += {2 * pixels};",
        "}",
    ]


def copy_edge(window: Window) -> list[str]:
    op = window.op
    end, row = op.width - window.columns, window.row_bytes
    return [
        f"int32_t from = column < 0 ? -column : 0, to = column > {end} ? {op.width} - column : {window.columns};",
        f"memset(edge, {op.x_zero}, {window.edge_bytes});",
        f"for (int32_t i = 0, r = row; i < {op.kernel_h}; i++, r += {op.dilation[0]})",
        f"  if ((uint32_t)r < {op.height}u && from < to)",
        f"    memcpy(edge + i * {row} + from * {op.channels}, x + (r * {op.width} + column + from) * {op.channels}, "
        f"(size_t)(to - from) * {op.channels});",
    ]
