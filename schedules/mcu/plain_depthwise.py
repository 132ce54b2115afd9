"""Depthwise convolutions on cores without the DSP extension: one filter after the other, over rows copied to scratch memory.

    for each filter: widen its weights
      for each band of output rows: copy the rows of its channel, with their border, behind those that are kept     _fill
        for each output row, for each two neighbours: sums, one instruction for two products
          y = clip(requantize(sums))                                                                                plain_rescale

Thumb-2 has a long multiply-accumulate: there word j of a row holds two columns, x[j] + 2^23 * x[j + stride], and 64-bit sums hold two
neighbours. Without, a word is one column. A channel is read ahead of what is written, so that y may take the place of an equal x.

Knob: `rows` of output in a band.
"""

from collections.abc import Sequence

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule

from schedules import integer
from schedules.integer import Depthwise
from schedules.loopnest import Column, LoopNest
from schedules.machine import Machine
from schedules.mcu import nests, plain_rescale
from schedules.mcu.kernel import Kernel, as_schedule
from schedules.mcu.plain_steps import MOST_TAPS
from schedules.mcu.room import within
from schedules.space import Array, Point, Space

LANE = 23
SCRATCH = 256  # words of scratch memory that the default stays below, where it can
UNROLL = 4


def plain_depthwise(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    """The rule: every depthwise convolution, where the machine has no DSP extension."""
    op = integer.read(program)
    if machine.dsp or not isinstance(op, Depthwise):
        return None
    lane = LANE if machine.thumb2 and op.kernel_h * op.kernel_w < 256 else 0  # 255 * 128 * 128 < 2^22
    room = (SCRATCH // pitch(op, lane) - extent(op)) // op.strides[0] + 1
    default = max(1, min(op.out_height, room))
    rows = sorted({1, 2, 4, 8, default, op.out_height})

    def apply(point: Point) -> Schedule:
        return as_schedule(program, kernel(op, int(point["rows"]), lane, machine.thumb2))

    def pack(point: Point, constants: Sequence[Array]) -> list[Array]:
        return packed(op, constants)

    def scratch(point: Point) -> int:
        return 4 * pitch(op, lane) * held(op, int(point["rows"]))

    return Space(
        "plain_depthwise",
        default={"rows": default},
        knobs={"rows": rows},
        apply=apply,
        pack=pack,
        legal=within(op, scratch, {"rows": default}),
        nests=lambda columns: [nest(op, np.asarray(columns["rows"]), lane)],
    )


def nest(op: Depthwise, rows: Column, lane: int) -> LoopNest:
    """Four instructions for each word of a row that is copied, two to keep one; three for each product, or two of them."""
    words, bands, together = pitch(op, lane), np.ceil(op.out_height / rows), 2 if lane else 1
    held = (rows - 1) * op.strides[0] + extent(op)
    kept = np.maximum(held - rows * op.strides[0], 0)
    copied = 4 * words * (held + (bands - 1) * (held - kept)) + 2 * words * kept * (bands - 1)
    sums = op.out_height * -(-op.out_width // together) * (3 * op.kernel_h * op.kernel_w + 2 * together * nests.RESCALE)
    instructions = op.batch * op.filters * (copied + sums + nests.LOOP * bands)
    return nests.depthwise(op, rows, together, 1, instructions, 4 * held * words)


def extent(op: Depthwise) -> int:
    """Rows of the image from the first that an output row reads to the last, or to the next output row."""
    return max((op.kernel_h - 1) * op.dilation[0] + 1, op.strides[0])


def held(op: Depthwise, band: int) -> int:
    """Rows of the image that a band of so many output rows reads."""
    return (band - 1) * op.strides[0] + extent(op)


def pitch(op: Depthwise, lane: int) -> int:
    """Words of one row: columns of the image from the first to the last that begins a tap."""
    outs = op.out_width - 1 - (op.out_width + 1) % 2 if lane else op.out_width - 1
    return max(outs, 0) * op.strides[1] + (op.kernel_w - 1) * op.dilation[1] + 1


def in_place(op: Depthwise) -> bool:
    same = (op.height, op.width, op.channels) == (op.out_height, op.out_width, op.filters)
    return same and op.strides == (1, 1) and extent(op) > op.pad[0]


def kernel(op: Depthwise, band: int, lane: int, thumb2: bool) -> Kernel:
    """The kernel of one point."""
    words, step_h = pitch(op, lane), op.strides[0]
    rows = held(op, band)
    kept = (rows - band * step_h) * words
    image = op.height * op.width * op.channels
    keep = f"""\
        if (i) {{
          for (int32_t at = 0; at < {kept}; at += {UNROLL}) {{
            {" ".join(f"rows[at + {u}] = rows[at + {band * step_h * words + u}];" for u in range(UNROLL))}
          }}
          to = rows + {kept};
        }}
"""
    last = f" && i + r < {op.out_height}" if op.out_height % band else ""
    step = 2 if lane else 1
    source = f"""\
static void KERNEL(const int8_t *x, const int8_t *w, const int32_t *k, int8_t *y, int32_t *rows) {{
  for (int32_t f = 0; f < {op.filters}; f++, w += {op.kernel_h * op.kernel_w}, k += 3) {{
    int32_t weights[{op.kernel_h * op.kernel_w}];
    for (int32_t i = 0; i < {op.kernel_h * op.kernel_w}; i++) weights[i] = w[i];
    {" ".join(plain_rescale.constants(op))}
    const int8_t *image = x + {"f" if op.filters == op.channels else f"f / {op.filters // op.channels}"};
    int8_t *o = y + f;
    for (int32_t n = 0; n < {op.batch}; n++, image += {image}) {{
      const int8_t *line = image;
      int32_t *to = rows, row = {-op.pad[0]};
      for (int32_t i = 0; i < {op.out_height}; i += {band}) {{
{keep if op.out_height > band and kept else "        to = rows;" if op.out_height > band else ""}\
        for (; to != rows + {rows * words}; to += {words}, row++) {{
{_fill(op, words, lane)}
        }}
        for (int32_t r = 0; r < {band}{last}; r++) {{
          const int32_t *z = rows + r * {step_h * words};
          for (int32_t j = {op.out_width}; j > 0; j -= {step}, z += {step * op.strides[1]}, o += {step * op.filters}) {{
{_outputs(op, words, lane, thumb2)}
          }}
{f"          o -= {op.filters};" if lane and op.out_width % 2 else ""}
        }}
      }}
    }}
  }}
}}
"""
    return Kernel(source, scratch=4 * (rows * words + UNROLL - 1), overlap=0 if in_place(op) else None, exact=True)


def _fill(op: Depthwise, words: int, lane: int) -> str:
    """Statements that copy the row `line` of the image, with its border, to the words at `to`."""
    step, left, channels = op.strides[1], op.pad[1], op.channels

    def word(low: str, high: str) -> str:
        return f"(int32_t)((uint32_t){low} + ((uint32_t){high} << {lane}))" if lane else low

    def column(j: int) -> str:
        return f"line[{(j - left) * channels}]" if 0 <= j - left < op.width else f"({op.x_zero})"

    begin = min(left, words)
    inside = max(min(op.width - (step if lane else 0), words - begin), 0)
    group = UNROLL if UNROLL % step == 0 or not lane else step
    loop = inside // group * group if inside >= 2 * group else 0
    lines = [f"to[{j}] = {word(column(j), column(j + step))};" for j in (*range(begin), *range(begin + loop, words))]
    if loop:
        ahead = step if lane else 0  # columns that the loop has read before it needs them
        reads = [f"a{i} = p[{i * channels}]" for i in range(ahead)]
        names = [f"a{i}" for i in range(ahead + group)]
        body = [f"int32_t {', '.join(f'{name} = p[{(ahead + i) * channels}]' for i, name in enumerate(names[ahead:]))};"]
        body += [f"q[{i}] = {word(names[i], names[i + ahead] if lane else '')};" for i in range(group)]
        body += [f"a{i} = {names[group + i]};" for i in range(ahead)]
        lines += ["const int8_t *p = line;", *([f"int32_t {', '.join(reads)};"] if reads else [])]
        lines += [
            f"for (int32_t *q = to + {begin}; q != to + {begin + loop}; q += {group}, p += {group * channels}) {{ {' '.join(body)} }}"
        ]
    border = (op.x_zero + (op.x_zero << lane) + (1 << 31)) % (1 << 32) - (1 << 31) if lane else op.x_zero
    lines = [*lines, f"line += {op.width * channels};"]
    if op.padded or op.out_height > 0:
        other = f"for (int32_t j = 0; j < {words}; j++) to[j] = {border};"
        lines = [f"if ((uint32_t)row < {op.height}u) {{", *(f"  {line}" for line in lines), "} else {", f"  {other}", "}"]
    return "\n".join(f"          {line}" for line in lines)


def _outputs(op: Depthwise, words: int, lane: int, thumb2: bool) -> str:
    """Statements that compute the outputs at z, those of the next two columns or of one."""
    row, half = op.dilation[0] * words, 1 << (lane - 1) if lane else 0
    most = MOST_TAPS if op.dilation[1] == 1 else 1
    sums = "&low, &high" if lane else "&sum"
    lines = ["const int32_t *u = z, *v = weights;", f"uint32_t low = {half}; int32_t high = 0;" if lane else "int32_t sum = 0;"]
    at = 0
    for i in range(op.kernel_h):
        for j in range(0, op.kernel_w, most):
            start, taps = i * row + j * op.dilation[1], min(most, op.kernel_w - j)
            lines += [f"u += {start - at};"] if start != at else []
            lines.append(f"stack_{'long' if lane else 'short'}_taps_{taps}(&u, &v, {sums});")
            at = start + taps
    totals = ["sum"]
    if lane:
        totals = [f"-{half} + (int32_t)(low & {2 * half - 1})", f"(int32_t)(low >> {lane} | (uint32_t)high << {32 - lane})"]
    lines += plain_rescale.outputs(
        op,
        [f"bias {total}" if total[0] == "-" else f"bias + {total}" for total in totals],
        thumb2,
        op.filters,
        "j" if lane and op.out_width % 2 else None,
    )
    return "\n".join(f"            {line}" for line in lines)


def packed(op: Depthwise, constants: Sequence[Array]) -> list[Array]:
    """Weights filter by filter; bias, multiplier and shift of each side by side."""
    w, *vectors = constants
    return [np.ascontiguousarray(w.reshape(-1, op.filters).T), np.stack(vectors, axis=1).astype(np.int32)]
