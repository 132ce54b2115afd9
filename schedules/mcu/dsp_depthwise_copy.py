"""One channel of an image as int16 pairs with a border of zero points: all of it, or a band of rows after the other.

plane:  [z z z z z z]        band of 2 rows of outputs:  rows 0-3, outputs 0 and 1; its last two rows move up, rows 4 and 5 follow; ...
        [z x x x x z]
        [z x x x x z]        Rows are read before an output can take their place: y may lie exactly over x.
        [z z z z z z]
"""

from schedules.integer import Depthwise

SMALL = 1536  # bytes: a plane of that is copied as a whole
BAND = 1024  # bytes that a band may take


class Plane:
    """Where the pixels of a channel lie: `height` rows of `pitch` words, for `rows` rows of outputs."""

    def __init__(self, op: Depthwise, rows: int) -> None:
        self.op = op
        self.rows = rows
        self.height = (rows - 1) * op.strides[0] + (op.kernel_h - 1) * op.dilation[0] + 1
        self.kept = max(0, self.height - rows * op.strides[0])  # rows that the next band reads as well
        width = (op.out_width - 1) * op.strides[1] + op.kernel_w
        self.columns = min(op.width, width - op.pad[1])  # that are read at all
        self.pitch = (width + 1) // 2
        self.words = self.height * self.pitch
        self.border = f"(int32_t)0x{(op.x_zero & 0xFFFF) * 0x10001:08x}u"

    @property
    def whole(self) -> bool:
        return self.rows == self.op.out_height

    def in_place(self) -> bool:
        """Whether all that lies under a band of outputs has been read when these are written."""
        op = self.op
        if op.filters != op.channels or op.out_height * op.out_width > op.height * op.width:
            return False
        done = range(self.rows, op.out_height, self.rows)  # rows of outputs, and of pixels that have been read by then
        read = [(rows - self.rows) * op.strides[0] - op.pad[0] + self.height for rows in done]
        return all(rows * op.out_width <= pixels * op.width or pixels >= op.height for rows, pixels in zip(done, read, strict=True))

    def fill(self) -> list[str]:
        """The lines that fill the plane, or in the loop over bands, from output row `done` on, the band."""
        op = self.op
        inner, back = self.copy_row()
        next_row = f"pixel += {(op.width - 4 * back) * op.channels}, to += {self.pitch - 2 * back}"
        left, right = divmod(op.pad[1] + 1, 2)
        first = op.channels * (1 - right)  # pixel 0 may go to an upper half
        if self.whole:
            rows = min(op.height, self.height - op.pad[0])
            return [
                f"int32_t *to = plane + {op.pad[0] * self.pitch + left};",
                f"const int8_t *pixel = x + {first};",
                *(["#pragma GCC unroll 2"] if len(inner) <= 4 else []),
                f"for (int32_t i = 0; i < {rows}; i++, {next_row}) {{",
                *(f"  {line}" for line in inner),
                "}",
            ]
        return [
            f"int32_t row = done * {op.strides[0]} - {op.pad[0]}, *to = plane + {left};",
            f"if (done) {{ row += {self.kept}, to += {self.kept * self.pitch};",
            *self.move_up(),
            "}",
            f"const int8_t *pixel = x + row * {op.width * op.channels} + {first};",
            f"for (; to < plane + {self.words}; row++, {next_row})",
            f"  if ((uint32_t)row >= {op.height}u) {{",
            f"    for (int32_t j = 0; j < {self.pitch}; j++) to[j - {left}] = {self.border};",
            *([f"    pixel += {4 * back * op.channels}, to += {2 * back};"] if back else []),
            "  } else {",
            *(f"    {line}" for line in inner),
            "  }",
        ]

    def move_up(self) -> list[str]:
        count, shift = self.kept * self.pitch, self.rows * self.op.strides[0] * self.pitch
        lines = []
        if count > 1:
            lines += [
                "  int32_t u, v;",
                "#pragma GCC unroll 4",
                f"  for (int32_t j = 0; j < {count - 1}; j += 2) {{",
                f"    stack_load_two(plane + {shift} + j, &u, &v);",
                "    stack_store_two(plane + j, u, v);",
                "  }",
            ]
        return lines + ([f"  plane[{count - 1}] = plane[{shift + count - 1}];"] if count % 2 else [])

    def copy_row(self) -> tuple[list[str], int]:
        """The lines for one row, two words at a time, halves next to the border alone; and by how many of these `pixel` and `to` move."""
        op = self.op
        first = op.pad[1] % 2
        quads, rest = divmod(self.columns - first, 4)
        repeat = max((4, 5, 6), key=lambda count: (-(quads % count), count)) if quads > 6 else quads
        moved = quads - quads % repeat if quads > 6 else 0

        def pixel(index: int) -> str:
            return f"pixel[{index * op.channels}]"

        def four(quad: int) -> str:
            words = ", ".join(f"stack_pkhbt({pixel(4 * quad + i)}, {pixel(4 * quad + i + 1)})" for i in (0, 2))
            return f"stack_store_two(to + {2 * quad}, {words});"

        lines = [f"stack_store2((int8_t *)to - 2, {pixel(-1)});"] if first else []
        if moved:
            steps = f"pixel += {4 * repeat * op.channels}, to += {2 * repeat}"
            lines += [f"for (int32_t j = 0; j < {moved // repeat}; j++, {steps}) {{", *(f"  {four(quad)}" for quad in range(repeat)), "}"]
        left = quads - moved
        lines += [four(quad) for quad in range(left)]
        if rest >= 2:
            lines.append(f"to[{2 * left}] = stack_pkhbt({pixel(4 * left)}, {pixel(4 * left + 1)});")
        if rest % 2:
            lines.append(f"stack_store2(to + {2 * left + rest // 2}, {pixel(4 * left + rest - 1)});")
        return lines, moved


def default_rows(op: Depthwise) -> int:
    """All rows of outputs where the plane is small; otherwise as many as fit into a band, evenly."""
    whole, row = Plane(op, op.out_height), Plane(op, 1)
    if 4 * whole.words <= SMALL or op.filters != op.channels:
        return op.out_height
    most = max(BAND // (4 * row.pitch), row.height + 3 * op.strides[0])
    rows = (most - row.height) // op.strides[0] + 1
    return -(-op.out_height // -(-op.out_height // rows))
