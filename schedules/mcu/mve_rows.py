"""The patches of one row of outputs in scratch memory, as [column][kernel_h][channel]: the patch of each pixel is one run of bytes.

Columns beside the image are filled once; a row of the image is copied 16 bytes at a time, of one column, or where there are few channels of
several columns, which a scatter puts into their places. With a dilation along the row, each pixel has columns of its own.
"""

from dataclasses import dataclass

from schedules.integer import Conv2D

LANES = 16


@dataclass(frozen=True)
class Rows:
    op: Conv2D

    @property
    def shared(self) -> bool:
        """Whether neighbours share columns."""
        return self.op.dilation[1] == 1

    @property
    def column(self) -> int:
        """Bytes of one column."""
        return self.op.kernel_h * self.op.channels

    @property
    def columns(self) -> int:
        op = self.op
        return (op.out_width - 1) * op.strides[1] + op.kernel_w if self.shared else op.out_width * op.kernel_w

    @property
    def pitch(self) -> int:
        """Bytes from one pixel's patch to the next one's."""
        return self.column * (self.op.strides[1] if self.shared else self.op.kernel_w)

    @property
    def bytes(self) -> int:
        """What is read behind the last patch included."""
        return -(-(self.columns * self.column + max(0, LANES - self.op.reduction)) // 4) * 4

    @property
    def inside(self) -> int:
        """Columns that the image has."""
        return min(self.op.width, self.columns - self.op.pad[1])

    def begin(self) -> list[str]:
        """C, before the first row."""
        if self.shared and self.inside == self.columns:
            return []
        return [f"memset(rows, {self.op.x_zero}, {self.columns * self.column});"]

    def fill(self) -> list[str]:
        """C: the patches of row `oy` of outputs of the image `image`."""
        op = self.op
        if self.shared and self.inside <= 0:
            return []
        return [
            f"for (int32_t r = 0; r < {op.kernel_h}; r++) {{",
            f"  const int32_t iy = oy * {op.strides[0]} + r * {op.dilation[0]} - {op.pad[0]};",
            f"  const int8_t *from = image + iy * {op.width * op.channels};",
            f"  int8_t *to = rows + r * {op.channels};",
            *("  " + line for line in (self.copy() if self.shared else self.copy_apart())),
            "}",
        ]

    def copy(self) -> list[str]:
        """C: one row of the image."""
        op, count = self.op, self.inside
        lines = [f"to += {op.pad[1] * self.column};"] if op.pad[1] else []
        if op.pad[0] or op.pad[2]:
            blank = [
                f"for (int32_t j = 0; j < {count}; j++)",
                f"  memset(to + j * {self.column}, {op.x_zero}, {op.channels});",
                "continue;",
            ]
            lines += [f"if (iy < 0 || iy >= {op.height}) {{", *("  " + line for line in blank), "}"]
        if self.column == op.channels:
            return [*lines, *run("to", "from", op.channels * count)]
        if op.channels >= LANES:
            step = [*run("to", "from", op.channels), f"from += {op.channels};", f"to += {self.column};"]
            return [*lines, f"for (int32_t j = 0; j < {count}; j++) {{", *("  " + line for line in step), "}"]
        return [*lines, *self.scatter()]

    def scatter(self) -> list[str]:
        """C: the row by as many columns at a time as 16 bytes hold, and 8-bit offsets reach."""
        op = self.op
        together = max(n for n in range(1, LANES // op.channels + 1) if n == 1 or (n - 1) * self.column + op.channels <= 256)
        offsets = [lane // op.channels * self.column + lane % op.channels for lane in range(together * op.channels)]
        offsets += [0] * (LANES - len(offsets))
        whole, rest = divmod(self.inside, together)

        def some(columns: int) -> list[str]:
            taken = f"vctp8q({columns * op.channels})"
            if columns * op.channels == LANES:
                return ["vstrbq_scatter_offset_s8(to, places, vldrbq_s8(from));"]
            return [f"vstrbq_scatter_offset_p_s8(to, places, vldrbq_z_s8(from, {taken}), {taken});"]

        step = [*some(together), f"from += {together * op.channels};", f"to += {together * self.column};"]
        return [
            f"static const uint8_t offsets[{LANES}] = {{{', '.join(map(str, offsets))}}};",
            "const uint8x16_t places = vldrbq_u8(offsets);",
            *([f"for (int32_t j = 0; j < {whole}; j++) {{", *("  " + line for line in step), "}"] if whole else []),
            *(some(rest) if rest else []),
        ]

    def copy_apart(self) -> list[str]:
        """C: one row of the image where each pixel has its own columns."""
        op = self.op
        return [
            f"for (int32_t j = 0; j < {self.columns}; j++) {{",
            f"  const int32_t ix = j / {op.kernel_w} * {op.strides[1]} + j % {op.kernel_w} * {op.dilation[1]} - {op.pad[1]};",
            f"  if (iy >= 0 && iy < {op.height} && ix >= 0 && ix < {op.width})",
            f"    memcpy(to + j * {self.column}, from + ix * {op.channels}, {op.channels});",
            "  else",
            f"    memset(to + j * {self.column}, {op.x_zero}, {op.channels});",
            "}",
        ]


def run(to: str, source: str, count: int) -> list[str]:
    """C: `count` bytes copied."""
    if count < LANES:
        return [f"vstrbq_p_s8({to}, vldrbq_z_s8({source}, vctp8q({count})), vctp8q({count}));"]
    whole, rest = divmod(count, LANES)
    move = f"vstrbq_s8({to} + {{0}}, vldrbq_s8({source} + {{0}}));"
    lines = [f"for (int32_t k = 0; k < {LANES * whole}; k += {LANES})", "  " + move.format("k")]
    if whole <= 4:
        lines = [move.format(LANES * number) for number in range(whole)]
    return [*lines, *([move.format(count - LANES)] if rest else [])]
