"""Depthwise convolutions on cores with Helium: each output of a channel is one dot product with a patch of that channel.

    for a strip of output rows, for 16 channels at a time:
      scratch [column][rows / 4][16 channels][4 rows] = the image under the strip, border and all      VST4 interleaves the rows
      for each filter, for four outputs at a time:
        gather four words, the patch; one VMLADAVA for each output, whose weights lie where its taps are in the patch
        requantise, clip, store the four

With a 3x3 kernel and stride 1, a patch of 4x4 holds the taps of 2x2 outputs: one gather and four multiplications for 36 products.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule

from schedules import integer
from schedules.integer import Depthwise
from schedules.machine import Machine
from schedules.mcu import mve_requantize
from schedules.mcu.kernel import Kernel, as_schedule
from schedules.space import Array, Point, Space

BLOCK = 16  # channels of one vector
WORD = 4 * BLOCK  # bytes of scratch for four rows of one column
RESIDENT = 5  # vectors of weights that stay in registers


def mve_depthwise(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    """The rule: every depthwise convolution, where the machine has Helium. `tile` is rows x columns of outputs of one patch."""
    op = integer.read(program)
    if not machine.helium or not isinstance(op, Depthwise):
        return None
    tiles = {f"{rows}x{columns}": Tile(op, rows, columns) for rows, columns in shapes(op)}

    def apply(point: Point) -> Schedule:
        return as_schedule(program, kernel(tiles[str(point["tile"])]))

    def pack(point: Point, constants: Sequence[Array]) -> list[Array]:
        return [pack_stream(tiles[str(point["tile"])], *constants)]

    best = min(tiles, key=lambda name: tiles[name].cost)
    return Space("mve_depthwise", knobs={"tile": tuple(tiles)}, default={"tile": best}, apply=apply, pack=pack)


def shapes(op: Depthwise) -> list[tuple[int, int]]:
    sizes = [(rows, columns) for rows in (1, 2, 4) for columns in (1, 2, 4) if rows * columns <= 4]
    return [(rows, columns) for rows, columns in sizes if rows <= op.out_height and columns <= op.out_width]


@dataclass(frozen=True)
class Tile:
    """`rows` x `columns` outputs that share a patch; as many tiles side by side as make up to four outputs are computed at once."""

    op: Depthwise
    rows: int
    columns: int

    @property
    def together(self) -> int:
        """Tiles whose outputs fill one vector."""
        return max(1, min(4 // (self.rows * self.columns), self.op.out_width // self.columns))

    @property
    def width(self) -> int:
        return self.together * self.columns

    @property
    def lanes(self) -> int:
        return self.rows * self.width

    @property
    def groups(self) -> int:
        """Groups of four rows under one row of tiles."""
        op = self.op
        return -(-((self.rows - 1) * op.strides[0] + (op.kernel_h - 1) * op.dilation[0] + 1) // 4)

    @property
    def words(self) -> list[tuple[int, int]]:
        """(column, group) of the words of a patch that hold taps."""
        op = self.op
        columns = {x * op.strides[1] + s * op.dilation[1] for x in range(self.columns) for s in range(op.kernel_w)}
        rows = {(y * op.strides[0] + r * op.dilation[0]) // 4 for y in range(self.rows) for r in range(op.kernel_h)}
        return [(column, group) for column in sorted(columns) for group in sorted(rows)]

    @property
    def vectors(self) -> int:
        """Vectors of one patch."""
        return -(-len(self.words) // 4)

    @property
    def weights(self) -> int:
        """Vectors of weights of one filter."""
        return self.rows * self.columns * self.vectors

    @property
    def cost(self) -> float:
        """Instructions for one output, to compare tiles with."""
        reload = self.weights * self.together if self.weights > RESIDENT else 0
        return (self.together * self.vectors + self.lanes * self.vectors + reload + 12) / self.lanes

    @property
    def scratch_columns(self) -> int:
        op = self.op
        return (op.out_width - 1) * op.strides[1] + (op.kernel_w - 1) * op.dilation[1] + 1

    @property
    def scratch(self) -> int:
        return self.scratch_columns * self.groups * WORD

    def offsets(self) -> list[list[int]]:
        """For each vector of a patch, where its four words are in scratch."""
        places = [(column * self.groups + group) * WORD for column, group in self.words]
        places += [places[-1]] * (-len(places) % 4)
        return [places[start : start + 4] for start in range(0, len(places), 4)]

    def outputs(self) -> list[int]:
        """Where the four outputs go, lane by lane."""
        at = [y * self.op.out_width + x for x in range(self.width) for y in range(self.rows)]
        return [place * self.op.filters for place in at + at[:1] * (4 - len(at))]


def pack_stream(tile: Tile, w: Array, bias: Array, multiplier: Array, shift: Array) -> Array:
    """For each filter: the weights of each output of a tile, in the form of a patch, then the numbers of its requantisation."""
    op = tile.op
    patches = np.zeros((op.filters, tile.columns, tile.rows, tile.vectors * 4, 4), np.int8)
    for x in range(tile.columns):
        for y in range(tile.rows):
            for r in range(op.kernel_h):
                for s in range(op.kernel_w):
                    group, row = divmod(y * op.strides[0] + r * op.dilation[0], 4)
                    word = tile.words.index((x * op.strides[1] + s * op.dilation[1], group))
                    patches[:, x, y, word, row] = w[0, r, s]
    numbers = mve_requantize.scalars(op, bias, multiplier, shift)
    return np.hstack([patches.reshape(op.filters, -1), numbers]).ravel()


def kernel(tile: Tile) -> Kernel:
    op = tile.op
    blocks, tail = divmod(op.channels, BLOCK)
    parts = [f"for (int32_t c = 0; c < {blocks * BLOCK}; c += {BLOCK}) {{", *indent(block(tile, BLOCK)), "}"] if blocks else []
    parts += [f"{{ const int32_t c = {blocks * BLOCK};", *indent(block(tile, tail)), "}"] if tail else []
    rows = f"for (int32_t top = 0; top < {op.out_height}; top += {tile.rows}) {{"
    clamp = f"const int32_t oy = top < {op.out_height - tile.rows} ? top : {op.out_height - tile.rows};"
    lines = [
        *vector("outputs", tile.outputs()),
        *(line for number, offsets in enumerate(tile.offsets()) for line in vector(f"patch{number}", offsets)),
        f"for (int32_t n = 0; n < {op.batch}; n++) {{",
        f"  const int8_t *image = x + n * {op.height * op.width * op.channels};",
        f"  int8_t *out = y + n * {op.out_height * op.out_width * op.filters};",
        f"  {rows}",
        *indent(indent([clamp, *parts])),
        "  }",
        "}",
    ]
    head = "static void KERNEL(const int8_t *x, const int8_t *constants, int8_t *y, void *scratch) {"
    return Kernel("\n".join(["#include <arm_mve.h>", head, *indent(lines), "}"]), scratch=tile.scratch)


def indent(lines: list[str]) -> list[str]:
    return ["  " + line for line in lines]


def vector(name: str, values: list[int]) -> list[str]:
    text = ", ".join(map(str, values))
    return [f"static const uint32_t {name}_of[4] = {{{text}}};", f"const uint32x4_t {name} = vldrwq_u32({name}_of);"]


def block(tile: Tile, channels: int) -> list[str]:
    """C: the strip of rows from `oy` on, for `channels` channels from `c` on."""
    op = tile.op
    multiplier = op.filters // op.channels
    per_filter = 16 * tile.weights + 4 * mve_requantize.count(op)
    return [
        *fill(tile, channels),
        f"const int8_t *w = constants + c * {per_filter * multiplier};",
        f"int8_t *at = out + oy * {op.out_width * op.filters} + c * {multiplier};",
        f"for (int32_t f = 0; f < {channels * multiplier}; f++) {{",
        f"  const int8_t *column = (const int8_t *)scratch + f{f' / {multiplier}' if multiplier > 1 else ''} * 4;",
        *indent(one_filter(tile)),
        f"  w += {per_filter};",
        "  at++;",
        "}",
    ]


def fill(tile: Tile, channels: int) -> list[str]:
    """C: the image under the strip into scratch."""
    op = tile.op
    load = "vldrbq_s8({})" if channels == BLOCK else f"vldrbq_z_s8({{}}, vctp8q({channels}))"
    source = load.format(f"image + (iy * {op.width} + ix) * {op.channels} + c")
    inside = f"iy >= 0 && iy < {op.height} && ix >= 0 && ix < {op.width}"
    return [
        f"for (int32_t j = 0; j < {tile.scratch_columns}; j++) {{",
        f"  const int32_t ix = j - {op.pad[1]};",
        f"  for (int32_t g = 0; g < {tile.groups}; g++) {{",
        "    int8x16x4_t rows;",
        "    for (int32_t r = 0; r < 4; r++) {",
        f"      const int32_t iy = oy * {op.strides[0]} + g * 4 + r - {op.pad[0]};",
        f"      rows.val[r] = {inside} ? {source} : vdupq_n_s8({op.x_zero});",
        "    }",
        f"    vst4q_s8((int8_t *)scratch + (j * {tile.groups} + g) * {WORD}, rows);",
        "  }",
        "}",
    ]


def one_filter(tile: Tile) -> list[str]:
    """C: a row of tiles of the filter whose constants are at `w`, whose words are at `column`, and whose outputs go to `at`."""
    op = tile.op
    lines = [f"const int8x16_t w{number} = vldrbq_s8(w + {16 * number});" for number in range(tile.weights)]
    lines += mve_requantize.load_scalars(op, f"w + {16 * tile.weights}")
    last = op.out_width - tile.width
    step = tile.width * op.strides[1] * tile.groups * WORD
    whole = op.out_width // tile.width
    lines += [
        "int8_t *to = at;",
        f"for (int32_t i = 0; i < {whole}; i++) {{",
        *indent(four(tile)),
        f"  column += {step};",
        f"  to += {tile.width * op.filters};",
        "}",
    ]
    if op.out_width % tile.width:
        over = whole * tile.width - last
        lines += [
            "{",
            f"  column -= {over * op.strides[1] * tile.groups * WORD};",
            f"  to -= {over * op.filters};",
            *indent(four(tile)),
            "}",
        ]
    return lines


def four(tile: Tile) -> list[str]:
    """C: up to four outputs, from the words at `column` to `to`."""
    op = tile.op
    lines = []
    for number in range(tile.together):
        start = number * tile.columns * op.strides[1] * tile.groups * WORD
        for v in range(tile.vectors):
            gather = f"vldrwq_gather_offset_s32((const int32_t *)(column + {start}), patch{v})"
            lines.append(f"int8x16_t p{number}_{v} = vreinterpretq_s8_s32({gather});")
        for output in range(tile.rows * tile.columns):
            lane = number * tile.rows * tile.columns + output
            sum = f"vmladavq_s8(p{number}_0, w{output * tile.vectors})"
            for v in range(1, tile.vectors):
                sum = f"vmladavaq_s8({sum}, p{number}_{v}, w{output * tile.vectors + v})"
            lines.append(f"int32_t a{lane} = {sum};")
    lines += [f"int32x4_t acc = stack_mve_lanes({', '.join(f'a{min(lane, tile.lanes - 1)}' for lane in range(4))});"]
    lines += mve_requantize.by_scalars(op, "acc")
    predicated, predicate = ("_p", f", vctp32q({tile.lanes})") if tile.lanes < 4 else ("", "")
    return [*lines, f"vstrbq_scatter_offset{predicated}_s32(to, outputs, acc{predicate});"]
