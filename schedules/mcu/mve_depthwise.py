"""Depthwise convolutions on cores with Helium: each output of a channel is one dot product with a patch of that channel.

    for a strip of output rows, for 16 channels at a time:
      scratch [column][rows / 4][16 channels][4 rows] = the image under the strip, border and all      VST4 interleaves the rows
      mve_strip: for each filter, for eight outputs at a time: patches, dot products, requantised, clipped, stored

The columns of the border are the same for all strips, and are filled once.
"""

from collections.abc import Sequence

from tvm import tirx
from tvm.s_tir import Schedule

from schedules import integer
from schedules.integer import Depthwise
from schedules.loopnest import LoopNest
from schedules.machine import Machine
from schedules.mcu import nests
from schedules.mcu.kernel import Kernel, as_schedule
from schedules.mcu.mve_strip import BLOCK, TABLE, WORD, Strip, Tile, filters, pack_stream, shapes
from schedules.mcu.overlap import row_major
from schedules.mcu.room import within
from schedules.space import Array, Point, Space


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

    def nest(tile: Tile) -> LoopNest:
        instructions = round(tile.cost * op.pixels * op.filters)
        return nests.depthwise(op, tile.rows, tile.columns, 16, instructions, tile.scratch)

    return Space(
        "mve_depthwise",
        knobs={"tile": tuple(tiles)},
        default={"tile": best},
        apply=apply,
        pack=pack,
        legal=within(op, lambda point: tiles[str(point["tile"])].scratch, {"tile": best}),
        nests=lambda columns: [nest(tiles[str(columns["tile"])])],
    )


def kernel(tile: Tile) -> Kernel:
    op = tile.op
    blocks, tail = divmod(op.channels, BLOCK)
    parts = [f"for (int32_t c = 0; c < {blocks * BLOCK}; c += {BLOCK}) {{", *indent(block(tile, BLOCK)), "}"] if blocks else []
    parts += ["{", f"  const int32_t c = {blocks * BLOCK};", *indent(block(tile, tail)), "}"] if tail else []
    last = op.out_height - tile.rows
    strips = [
        f"for (int32_t top = 0; top < {op.out_height}; top += {tile.rows}) {{",
        f"  const int32_t oy = top < {last} ? top : {last};",
        *indent(parts),
        "}",
    ]
    lines = [
        f"static const int8_t blank[{BLOCK}] = {{{', '.join([str(op.x_zero)] * BLOCK)}}};",
        f"int8_t *const columns = (int8_t *)scratch + {TABLE};",
        "uint32_t *const table = scratch;",
        f"static const uint16_t places[8] = {{{', '.join(str(place % (1 << 16)) for place in tile.places())}}};",
        f"const uint32_t first = (uint32_t)columns - {Strip(tile).back};",
        f"const uint32_t words[4] = {{{', '.join(f'first + {number * WORD}' for number in range(4))}}};",
        "memcpy(table, words, 16);",
        "memcpy(table + 4, places, 16);",
        *border(tile),
        f"for (int32_t n = 0; n < {op.batch}; n++) {{",
        f"  const int8_t *image = x + n * {op.height * op.width * op.channels};",
        f"  int8_t *out = y + n * {op.out_height * op.out_width * op.filters};",
        *indent(strips),
        "}",
    ]
    head = "static void KERNEL(const int8_t *x, const int32_t *constants, int8_t *y, void *scratch) {"
    row = op.out_width * op.filters  # a strip may begin at any row, and writes `rows` of them
    overlap = row_major(op, op.out_width, reads_first=False) + (tile.rows - 1) * row
    return Kernel("\n".join(["#include <arm_mve.h>", head, *indent(lines), "}"]), scratch=tile.scratch, overlap=overlap)


def indent(lines: list[str]) -> list[str]:
    return ["  " + line for line in lines]


def border(tile: Tile) -> list[str]:
    """C: the columns of scratch that lie beside the image."""
    op = tile.op
    right = max(0, tile.scratch_columns - op.pad[1] - op.width)
    pitch = tile.groups * WORD
    spans = [(0, min(op.pad[1], tile.scratch_columns)), (tile.scratch_columns - right, right)]
    return [f"memset(columns + {start * pitch}, {op.x_zero}, {count * pitch});" for start, count in spans if count]


def block(tile: Tile, channels: int) -> list[str]:
    """C: the strip of rows from `oy` on, for `channels` channels from `c` on."""
    op = tile.op
    multiplier = op.filters // op.channels
    lines = [line for group in range(tile.groups) for line in fill(tile, group, channels)]
    lines += [
        f"const int32_t *w = constants + c * {tile.stream // 4 * multiplier};",
        f"int8_t *to = out + oy * {op.out_width * op.filters} + c * {multiplier};",
    ]
    if multiplier == 1:
        return [*lines, *filters(tile, channels, advance=4)]
    move = "vstrwq_u32(table, vaddq_n_u32(vldrwq_u32(table), {}));"
    each = [*filters(tile, multiplier, advance=0), move.format(4)]
    return [*lines, f"for (int32_t channel = 0; channel < {channels}; channel++) {{", *indent(each), "}", move.format(-4 * channels)]


def fill(tile: Tile, group: int, channels: int) -> list[str]:
    """C: four rows of the image into scratch; a row beside the image is `blank`, again and again."""
    op = tile.op
    rows = min(4, tile.image_rows - 4 * group)
    width = min(op.width, tile.scratch_columns - op.pad[1])
    if width <= 0:
        return []
    load = "vldrbq_s8(p{})" if channels == BLOCK else f"vldrbq_z_s8(p{{}}, vctp8q({channels}))"
    lines, steps = [], []
    for r in range(rows):
        lines += [
            f"const int32_t y{r} = oy * {op.strides[0]} + {group * 4 + r - op.pad[0]};",
            f"const int32_t s{r} = y{r} >= 0 && y{r} < {op.height} ? {op.channels} : 0;",
            f"const int8_t *p{r} = s{r} ? image + y{r} * {op.width * op.channels} + c : blank;",
        ]
        steps += [f"rows.val[{r}] = {load.format(r)};", f"p{r} += s{r};"]
    steps += [f"rows.val[{r}] = rows.val[0];" for r in range(rows, 4)]
    return [
        "{",
        *indent(lines),
        f"  int8_t *column = columns + {(op.pad[1] * tile.groups + group) * WORD};",
        f"  for (int32_t j = 0; j < {width}; j++) {{",
        "    int8x16x4_t rows;",
        *indent(indent(steps)),
        "    vst4q_s8(column, rows);",
        f"    column += {tile.groups * WORD};",
        "  }",
        "}",
    ]
