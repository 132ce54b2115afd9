"""C that widens what one output reads, to int16 pairs, for the steps of `dsp_steps`.

A window is a list of runs, bytes side by side in memory: whole rows of the kernel where it is not dilated, else its taps. Runs are read by
four bytes: u -> pairs (0, 2) and (1, 3). What is left of them, up to three bytes each, comes last, again by four. `order` says which k that
makes, for the weights to follow.

Windows that leave the image are first copied to `edge`, rows side by side and x_zero beyond the border, and read from there: the two
differ only in `pitch`, the bytes from one row of the kernel to the next.
"""

from dataclasses import dataclass

from schedules.integer import Conv2D


@dataclass(frozen=True)
class Window:
    """What one output of `op` reads."""

    op: Conv2D

    @property
    def contiguous(self) -> bool:
        """Pixel after pixel, as in pointwise convolutions without stride."""
        op = self.op
        return op.kernel_h == op.kernel_w == 1 and op.strides == (1, 1) and not op.padded

    @property
    def columns(self) -> int:
        """Columns of the image from the first of a window to its last."""
        return (self.op.kernel_w - 1) * self.op.dilation[1] + 1

    @property
    def rows(self) -> int:
        return (self.op.kernel_h - 1) * self.op.dilation[0] + 1

    @property
    def row_bytes(self) -> int:
        return self.columns * self.op.channels

    @property
    def by_taps(self) -> bool:
        return self.op.dilation[1] > 1 and self.op.kernel_w > 1

    @property
    def run(self) -> int:
        return self.op.channels if self.by_taps else self.op.channels * self.op.kernel_w

    @property
    def starts(self) -> list[tuple[int, int]]:
        """Row of the kernel and byte in that row, for each run."""
        taps = range(self.op.kernel_w) if self.by_taps else range(1)
        return [(row, tap * self.op.dilation[1] * self.op.channels) for row in range(self.op.kernel_h) for tap in taps]

    @property
    def rest(self) -> int:
        return self.run % 4

    @property
    def leftovers(self) -> list[tuple[int, int, int]]:
        """Row of the kernel, byte in that row, and k, of each byte that is not read by fours."""
        whole = self.run - self.rest
        return [
            (row, start + byte, index * self.run + byte)
            for index, (row, start) in enumerate(self.starts)
            for byte in range(whole, self.run)
        ]

    @property
    def order(self) -> list[int]:
        """The k of every half word, -1 where it is only there to fill the last four."""
        whole = self.run - self.rest
        fours = [run * self.run + byte for run in range(len(self.starts)) for byte in range(0, whole, 4)]
        read = [[k, k + 1, k + 2, k + 3] for k in fours]
        loose = [k for _, _, k in self.leftovers]
        loose += [-1] * (-len(loose) % 4)
        read += [loose[at : at + 4] for at in range(0, len(loose), 4)]
        return [four[index] for four in read for index in (0, 2, 1, 3)]

    @property
    def words(self) -> int:
        """Pairs in one window."""
        return len(self.order) // 2

    @property
    def steps(self) -> int:
        """Four products each."""
        return len(self.order) // 4

    @property
    def edge_bytes(self) -> int:
        """Room for a window that leaves the image."""
        return self.op.kernel_h * self.row_bytes if self.op.padded else 0


def factor(count: int, limit: int) -> int:
    """The largest divisor of `count` up to `limit`."""
    return max(divisor for divisor in range(1, limit + 1) if count % divisor == 0)


def gather(window: Window, pixels: int) -> list[str]:
    """Statements that widen the window of the next output into every `pixels`-th word from q on, and step to the one after."""
    op = window.op
    lines = [*locate(window), *read_runs(window, pixels), *read_leftovers(window, pixels)]
    if window.contiguous:
        return [*lines, f"x += {op.channels};"]
    step_h, step_w = op.strides
    top, left = op.pad[0], op.pad[1]
    lines += [f"if ((column += {step_w}) == {op.out_width * step_w - left}) {{", f"  column = {-left}, row += {step_h};"]
    if op.batch > 1:
        lines.append(f"  if (row == {op.out_height * step_h - top}) row = {-top}, x += {op.height * op.width * op.channels};")
    return [*lines, "}"]


def locate(window: Window) -> list[str]:
    """`s`, where the window begins, and `pitch`."""
    op = window.op
    if window.contiguous:
        return ["const int8_t *s = x;"]
    inside = f"x + (row * {op.width} + column) * {op.channels}"
    pitch = f"{op.width * op.channels * op.dilation[0]}"
    if not op.padded:
        return [f"const int8_t *s = {inside};", f"enum {{ pitch = {pitch} }};"]
    fits = op.height >= window.rows and op.width >= window.columns
    lines = ["const int8_t *s = edge;", f"int32_t pitch = {window.row_bytes};"]
    if fits:
        test = f"(uint32_t)row <= {op.height - window.rows}u && (uint32_t)column <= {op.width - window.columns}u"
        lines += [f"if ({test}) {{", f"  s = {inside}, pitch = {pitch};", "} else {"]
    else:
        lines += ["{"]
    return [*lines, *(f"  {line}" for line in copy_edge(window)), "}"]


def copy_edge(window: Window) -> list[str]:
    op = window.op
    return [
        f"int32_t from = column < 0 ? -column : 0, to = column > {op.width - window.columns} ? {op.width} - column : {window.columns};",
        f"memset(edge, {op.x_zero}, {window.edge_bytes});",
        f"for (int32_t i = 0, r = row; i < {op.kernel_h}; i++, r += {op.dilation[0]})",
        f"  if ((uint32_t)r < {op.height}u && from < to)",
        f"    memcpy(edge + i * {window.row_bytes} + from * {op.channels}, x + (r * {op.width} + column + from) * {op.channels}, "
        f"(size_t)(to - from) * {op.channels});",
    ]


def read_runs(window: Window, pixels: int) -> list[str]:
    fours = window.run // 4
    if not fours:
        return []
    unroll = factor(fours, 4)
    body = ["int32_t u;"]
    for four in range(unroll):
        at = f" + {4 * four}" if four else ""
        body.append(f"u = stack_load4(r{at}), q[{2 * pixels * four}] = stack_sxtb16(u);")
        body.append(
            f"q[{2 * pixels * four + pixels}] = stack_sxtb16_ror8(u), q += {2 * pixels * unroll};"
            if four == unroll - 1
            else f"q[{2 * pixels * four + pixels}] = stack_sxtb16_ror8(u);"
        )
    if fours > unroll:
        body = [f"for (const int8_t *end = r + {4 * fours}; r != end; r += {4 * unroll}) {{", *(f"  {line}" for line in body), "}"]
    op = window.op
    if len(window.starts) == 1:
        return ["{", "  const int8_t *r = s;", *(f"  {line}" for line in body), "}"]
    if window.by_taps:
        body = [
            f"for (int32_t tap = 0; tap < {op.kernel_w}; tap++) {{",
            f"  const int8_t *r = s + i * pitch + tap * {op.dilation[1] * op.channels};",
            *(f"  {line}" for line in body),
            "}",
        ]
    else:
        body = ["const int8_t *r = s + i * pitch;", *body]
    return [f"for (int32_t i = 0; i < {op.kernel_h}; i++) {{", *(f"  {line}" for line in body), "}"]


def read_leftovers(window: Window, pixels: int) -> list[str]:
    bytes_ = [f"s[{row} * pitch + {byte}]" if row else f"s[{byte}]" for row, byte, _ in window.leftovers]
    bytes_ += ["0"] * (-len(bytes_) % 4)
    lines = []
    for at in range(0, len(bytes_), 4):
        a, b, c, d = bytes_[at : at + 4]
        lines.append(f"q[{at // 2 * pixels}] = stack_pack16({a}, {c});")
        lines.append(f"q[{(at // 2 + 1) * pixels}] = stack_pack16({b}, {d});")
    return lines
