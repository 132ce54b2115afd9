"""Convolutions and dense layers on cores without the DSP extension: two pixels in one word, copied to scratch memory.

    for each tile of pixels: copy their windows, two pixels to a word         plain_gather
      for each tile of filters: sums, two products a multiplication           plain_steps
        y = clip(requantize(sums))                                            plain_rescale

One pixel that reads a whole image needs no copy: its window is the image.

Knobs: `tile` pixels x filters that share what is loaded, `turn` products in the body of the loop. Layers that may overflow those words take
one pixel a word, and plain C.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule

from schedules import integer
from schedules.integer import Conv2D
from schedules.loopnest import Column, LoopNest
from schedules.machine import Machine
from schedules.mcu import nests, plain_gather, plain_rescale
from schedules.mcu.kernel import Kernel, as_schedule
from schedules.mcu.overlap import row_major
from schedules.mcu.plain_dense import whole
from schedules.mcu.plain_steps import LONG, TURN, TURNS
from schedules.mcu.room import within
from schedules.space import Array, Point, Space

LONG_LANE, SHORT_LANE = 23, 16
SCRATCH = 1024  # bytes of scratch memory that the default stays below, where it can


def plain_conv(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    """The rule: every convolution, where the machine has no DSP extension."""
    op = integer.read(program)
    if machine.dsp or not isinstance(op, Conv2D):
        return None
    lane = lane_of(op, machine)
    long_tiles = tuple(f"{2 * words}x{filters}" for words, filters in LONG)
    tiles = {LONG_LANE: long_tiles, SHORT_LANE: ("4x1",)}.get(lane, ("1x1", "2x1", "2x2"))
    turns = TURNS if lane == LONG_LANE else (TURN,)

    def apply(point: Point) -> Schedule:
        return as_schedule(program, kernel(op, point, lane, machine.thumb2))

    def pack(point: Point, constants: Sequence[Array]) -> list[Array]:
        return packed(op, point, constants)

    first = default(op, lane)
    return Space(
        "plain_conv",
        default=first,
        knobs={"tile": tiles, "turn": turns},
        apply=apply,
        pack=pack,
        legal=within(op, lambda point: 4 * patch_words(op, point, lane), first),
        nests=lambda columns: [nest(op, columns, lane)],
    )


def default(op: Conv2D, lane: int) -> dict[str, str | int]:
    """Six pixels share a weight where their windows are small, else four pixels and two filters share more for less memory."""
    if lane != LONG_LANE:
        return {"tile": "4x1" if lane else "2x2" if op.pixels > 1 else "1x1", "turn": TURN}
    turn = max(TURNS) if op.reduction % max(TURNS) == 0 else TURN
    wide = 12 * op.reduction <= SCRATCH and -(-op.pixels // 6) * 6 <= -(-op.pixels // 4) * 4 + op.pixels // 16
    return {"tile": "2x3" if op.pixels <= 2 else "6x1" if wide else "4x2", "turn": turn}


def patch_words(op: Conv2D, point: Point, lane: int) -> int:
    """Of the windows of one tile."""
    return plain_gather.words(tile_of(point)[0], lane) * (op.reduction + -op.reduction % int(point["turn"]))


def nest(op: Conv2D, columns: Mapping[str, str | bool | Column], lane: int) -> LoopNest:
    """A step loads its words of pixels and its weights, and multiplies each by each; gathering takes three instructions a word."""
    pixels, filters = tile_of({"tile": str(columns["tile"])})
    words, turn = plain_gather.words(pixels, lane), np.asarray(columns["turn"])
    steps = -(-op.reduction // turn) * turn
    group = steps * (words + filters + words * filters) + nests.LOOP * steps // turn + 2 * pixels * filters * nests.RESCALE
    instructions = -(-op.pixels // pixels) * (3 * words * steps + -(-op.filters // filters) * group)
    return nests.convolution(op, op.reduction, pixels, filters, 1, instructions, 4 * words * op.reduction)


def lane_of(op: Conv2D, machine: Machine) -> int:
    """How many bits apart two pixels of a word are, 0 where there is one."""
    if op.pixels == 1:
        return 0
    if machine.thumb2:
        return LONG_LANE
    return SHORT_LANE if op.narrow else 0  # two products, of up to 127 * 128, fit in 16 bits


def parts_of(op: Conv2D, steps: int, turn: int) -> int:
    """How many parts of a reduction are summed on their own, so that none leaves its lane, whatever the activations."""
    if op.weight_sum * 128 < 1 << (LONG_LANE - 1):
        return 1
    longest = ((1 << (LONG_LANE - 1)) - 1) // (128 * 128) // turn * turn
    return next(parts for parts in range(-(-steps // longest), steps + 1) if steps % (parts * turn) == 0)


def tile_of(point: Point) -> tuple[int, int]:
    """Pixels and filters."""
    pixels, filters = str(point["tile"]).split("x")
    return int(pixels), int(filters)


def kernel(op: Conv2D, point: Point, lane: int, thumb2: bool) -> Kernel:
    """The kernel of one point."""
    pixels, filters = tile_of(point)
    words = plain_gather.words(pixels, lane)
    turn = int(point["turn"])
    steps = op.reduction + -op.reduction % turn
    direct = not lane and pixels == 1 == op.pixels and whole(op)
    parts = parts_of(op, steps, turn) if lane == LONG_LANE else 1
    begin, totals = sums(pixels, filters, lane, turn, parts, steps * words // parts)
    if direct:
        begin = direct_sums(op, filters, steps)
    exist = f"{op.pixels} - pixel" if op.pixels % pixels else None
    finish = []
    for f in range(filters):
        exists = f"if (f + {f} < {op.filters}) " if op.filters % filters and f else ""
        sums_of = [f"bias {total}" if total[0] == "-" else f"bias + {total}" for total in totals[f * pixels : (f + 1) * pixels]]
        body = plain_rescale.constants(op) + plain_rescale.outputs(op, sums_of, thumb2, op.filters, exist)
        finish += [f"{exists}{{", *(f"  {line}" for line in body), "}", "k += 3, o++;"]
    text = "\n".join(f"      {line}" for line in [*begin, *finish])
    end = f"  const int32_t *end = patch + {steps * words};" if parts == 1 else ""
    source = f"""\
static void KERNEL(const int8_t *x, const int8_t *w, const int32_t *constants, int8_t *y{"" if direct else ", int32_t *patch"}) {{
{"" if direct else end}
{"" if direct else plain_gather.begin(op)}
  for (int32_t pixel = 0; pixel < {op.pixels}; pixel += {pixels}, y += {op.filters * pixels}) {{
{"" if direct else plain_gather.gather(op, pixels, lane)}
    const int8_t *weight = w;
    const int32_t *k = constants;
    int8_t *o = y;
    for (int32_t f = 0; f < {op.filters}; f += {filters}) {{
{text}
    }}
  }}
}}
"""
    if direct:
        return Kernel(source)
    return Kernel(source, scratch=4 * words * steps, overlap=row_major(op, pixels))


def direct_sums(op: Conv2D, filters: int, steps: int) -> list[str]:
    """Statements that sum over the image itself, and step over the weights that fill the last turn."""
    add = " ".join(f"s[{f}] += in[i] * weight[{f}];" for f in range(filters))
    loop = f"for (int32_t i = 0; i < {op.reduction}; i++, weight += {filters}) {{ {add} }}"
    rest = (steps - op.reduction) * filters
    return [f"int32_t s[{filters}] = {{0}};", "const int8_t *in = x;", loop, *([f"weight += {rest};"] if rest else [])]


def sums(pixels: int, filters: int, lane: int, turn: int, parts: int, part: int) -> tuple[list[str], list[str]]:
    """Statements that sum, and what the sums of each filter are, pixel by pixel; in `parts` of so many words."""
    count = pixels * filters
    if lane == SHORT_LANE:
        lines = [f"int32_t s[{count}] = {{0}};", "weight = stack_short_sums_2(patch, end, weight, s);"]
        return lines, [f"s[{i}]" for i in range(count)]
    if not lane:
        add = " ".join(f"s[{f * pixels + p}] += in[{p}] * weight[{f}];" for f in range(filters) for p in range(pixels))
        loop = f"for (const int32_t *in = patch; in != end; in += {pixels}, weight += {filters}) {{ {add} }}"
        return [f"int32_t s[{count}] = {{0}};", loop], [f"s[{i}]" for i in range(count)]
    half = 1 << (lane - 1)  # added, so that the low sum is not negative
    lines = [
        f"uint32_t low[] = {{{', '.join([str(half)] * (count // 2))}}};",
        f"int32_t high[{count // 2}] = {{0}};",
        f"weight = stack_long_sums_{pixels // 2}x{filters}_by{turn}({'in' if parts > 1 else 'patch'}, end, weight, low, high);",
    ]
    first = f"-{half} + (int32_t)(low[{{i}}] & {2 * half - 1})"
    second = f"(int32_t)(low[{{i}}] >> {lane} | (uint32_t)high[{{i}}] << {32 - lane})"
    totals = [text.format(i=i) for i in range(count // 2) for text in (first, second)]
    if parts == 1:
        return lines, totals
    adds = " ".join(f"s[{i}] += {total};" for i, total in enumerate(totals))
    loop = f"for (const int32_t *in = patch, *end = patch + {part}; in != patch + {parts * part}; in = end, end += {part}) {{"
    return [f"int32_t s[{count}] = {{0}};", loop, *(f"  {line}" for line in [*lines, adds]), "}"], [f"s[{i}]" for i in range(count)]


def packed(op: Conv2D, point: Point, constants: Sequence[Array]) -> list[Array]:
    """Weights of each tile of filters product by product; bias, multiplier and shift of each filter side by side."""
    w, *vectors = constants
    _, filters = tile_of(point)
    missing = -op.filters % filters
    rows = np.pad(w.reshape(op.filters, op.reduction), ((0, missing), (0, -op.reduction % int(point["turn"]))))
    table = np.pad(np.stack(vectors, axis=1), ((0, missing), (0, 0)))
    return [np.ascontiguousarray(rows.reshape(len(rows) // filters, filters, -1).swapaxes(1, 2)), table.astype(np.int32)]
