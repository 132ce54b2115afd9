"""Convolutions and dense layers on cores with the DSP extension: pixels widened once, filters two by two.

    for each tile of pixels: widen what they read to int16 pairs, in scratch memory         dsp_gather
      for each two (or four) filters: a[], b[] = sums over the tile, four products a step    dsp_steps
        y = clip(requantize(sums))

Knobs: `tile` pixels x filters that share what is loaded (13 registers hold no others); `weights` "shared" (256 * first + second) or
"bytes"; `unroll` steps in a loop's body; `direct` reads pixels as they are, without scratch memory, where each is widened for few filters
only; `order` of the two outer loops: with "filters" outside, what belongs to a filter is loaded once, and all pixels are widened first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from tvm import tirx
from tvm.s_tir import Schedule

from schedules import integer
from schedules.integer import Conv2D
from schedules.loopnest import Column, LoopNest
from schedules.machine import Machine
from schedules.mcu import nests
from schedules.mcu.dsp_gather import gather
from schedules.mcu.dsp_steps import TILES, Step
from schedules.mcu.dsp_widen import factor, indent
from schedules.mcu.dsp_window import Window
from schedules.mcu.kernel import Kernel, as_schedule
from schedules.mcu.overlap import row_major
from schedules.mcu.room import LEAST, images, within
from schedules.space import Array, Point, Space, Value

MOST_SHARED = 1 << 15  # of weight_sum: |128 * weight_sum| < 2^23, so that a sum fits above the 8 bits of its neighbour
PIXELS, FILTERS = "pixels", "filters"  # the outer loop
COST = {3: 17, 2: 12, 1: 7}  # instructions of a step over so many pixels and two filters


def dsp_conv2d(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    """The rule: every convolution and dense layer, where the machine has the DSP extension."""
    op = integer.read(program)
    if not machine.dsp or not isinstance(op, Conv2D):
        return None
    window = Window(op)
    tiles = [f"{pixels}x{2 * pairs}" for pixels, pairs in TILES if pixels <= op.pixels]
    knobs: dict[str, Sequence[Value]] = {
        "tile": tiles,
        "weights": ["shared", "bytes"] if op.narrow and op.weight_sum <= MOST_SHARED else ["bytes"],
        "unroll": sorted({1, 2, 4, 8, 16, even_unroll(window.steps)}),
        "direct": [False, True] if window.contiguous and op.channels % 4 == 0 else [False],
        "order": [PIXELS, FILTERS] if op.pixels > 1 else [PIXELS],
    }

    def apply(point: Point) -> Schedule:
        return as_schedule(program, kernel(window, point))

    def pack_point(point: Point, constants: Sequence[Array]) -> list[Array]:
        return pack(window, point, constants)

    first = default(window, knobs)
    return Space(
        "dsp_conv2d",
        knobs=knobs,
        default=first,
        apply=apply,
        pack=pack_point,
        legal=within(op, lambda point: scratch_bytes(window, point), first),
        nests=lambda columns: [nest(window, columns)],
    )


def default(window: Window, knobs: dict[str, Sequence[Value]]) -> dict[str, Value]:
    """As many pixels as share a step, up to three, with room for them: scratch memory no larger than the layer's own images, or 1 KB.

    A single pixel shares its loads between four filters instead.
    """
    op = window.op
    most = max(images(op), LEAST)
    fitting = [pixels for pixels in COST if pixels <= op.pixels and scratch_words(window, pixels) * 4 <= most]
    pixels = min(fitting, key=lambda pixels: COST[pixels] * -(-op.pixels // pixels), default=1)
    tile = f"{pixels}x2" if pixels > 1 or op.filters % 4 in (1, 2) else "1x4"
    direct = not fitting and True in knobs["direct"]
    return {"tile": tile, "weights": knobs["weights"][0], "unroll": even_unroll(window.steps), "direct": direct, "order": PIXELS}


def nest(window: Window, columns: Mapping[str, str | bool | Column]) -> LoopNest:
    """Instructions of all steps as they are written, of the loops around them, and two for each word of a window that is copied."""
    op, direct = window.op, bool(columns["direct"])
    shape: Point = {"tile": str(columns["tile"]), "direct": direct, "order": str(columns["order"])}
    pixels, pairs = tile_of(shape)
    step = len(Step(pixels, pairs, columns["weights"] == "shared", direct).assembly()[0])
    loops = window.steps // np.minimum(np.asarray(columns["unroll"]), window.steps)
    group = window.steps * step + nests.LOOP * np.where(loops > 1, loops, 0) + 2 * pixels * pairs * nests.RESCALE + 4 * nests.LOOP
    copied = 0 if direct else 2 * pixels * window.words
    instructions = -(-op.pixels // pixels) * (copied + -(-op.filters // (2 * pairs)) * group)
    scratch, outside = scratch_bytes(window, shape), columns["order"] == FILTERS
    return nests.convolution(op, op.reduction, pixels, 2 * pairs, 4, instructions, scratch, outside)


def scratch_words(window: Window, pixels: int) -> int:
    return window.words * pixels + -(-window.edge_bytes // 4)


def widened(window: Window, point: Point) -> int:
    """How many pixels lie in scratch memory at once."""
    pixels, _ = tile_of(point)
    return -(-window.op.pixels // pixels) * pixels if point["order"] == FILTERS else pixels


def scratch_bytes(window: Window, point: Point) -> int:
    return 0 if point["direct"] else 4 * scratch_words(window, widened(window, point))


def even_unroll(steps: int) -> int:
    """Steps in the body of the loop: all where they are few, else up to nine that divide them, if that is four at least."""
    best = factor(steps, 9)
    return steps if steps <= 16 else best if best >= 4 else 8


def tile_of(point: Point) -> tuple[int, int]:
    """Pixels and pairs of filters; pixels read directly come one by one."""
    pixels, filters = (int(part) for part in str(point["tile"]).split("x"))
    return (1 if point["direct"] else pixels), filters // 2


def pack(window: Window, point: Point, constants: Sequence[Array]) -> list[Array]:
    """Weights in the order in which steps read them; six int32 for each pair of filters."""
    op = window.op
    w, bias, multiplier, shift = constants
    _, pairs = tile_of(point)
    groups = -(-op.filters // (2 * pairs))
    order = np.array(window.order)
    wide = np.zeros((groups * pairs * 2, order.size), np.int64)
    wide[: op.filters] = np.where(order < 0, 0, w.reshape(op.filters, -1).astype(np.int64)[:, order])
    first, second = wide[0::2], wide[1::2]
    halves = first * 256 + (second if point["weights"] == "shared" else second & 255)
    words = np.ascontiguousarray(halves.astype(np.int16)).view(np.int32)
    packed = words.reshape(groups, pairs, -1).transpose(0, 2, 1).reshape(-1)

    values = np.zeros((3, groups * pairs * 2), np.int64)
    values[:, : op.filters] = bias, multiplier, shift
    bias, multiplier, shift = values
    if op.right_shifts:  # as stack_rescale wants them
        multiplier, shift = 2 * multiplier, np.where(multiplier == 0, 0, -(1 << np.clip(32 + shift, 0, 31)))
    scale = np.stack([bias[1::2], bias[0::2], multiplier[0::2], shift[0::2], multiplier[1::2], shift[1::2]], axis=1)
    return [np.ascontiguousarray(packed), scale.astype(np.uint64).astype(np.uint32).astype(np.int32).reshape(-1)]


def kernel(window: Window, point: Point) -> Kernel:
    """The C function of one point."""
    op = window.op
    pixels, _ = tile_of(point)
    direct = bool(point["direct"])
    lines = []
    if not window.contiguous:
        lines.append(f"int32_t row = {-op.pad[0]}, column = {-op.pad[1]};")
    if window.edge_bytes:
        lines.append(f"int8_t *edge = (int8_t *)(scratch + {window.words * widened(window, point)});")
    if repeated(op, pixels) and op.batch > 1 and not window.contiguous:
        lines.append("const int8_t *images = x;")
    if point["order"] == FILTERS:
        body = filters_outside(window, point)
        overlap = None if direct else -op.batch * op.height * op.width * op.channels  # all is read before anything is written
    else:
        back = [f"y -= {repeated(op, pixels) * op.filters};", *step_back(window, pixels)]
        body = each_tile(op, pixels, tile_lines(window, point), back)
        overlap = row_major(op, pixels, reads_first=not direct, again=True)
    parameters = "const int8_t *x, const int32_t *restrict w, const int32_t *restrict scale, int8_t *y"
    if not direct:
        parameters += ", int32_t *restrict scratch"
    text = "\n".join(indent([*lines, *body]))
    return Kernel(source=f"static void KERNEL({parameters}) {{\n{text}\n}}\n", scratch=scratch_bytes(window, point), overlap=overlap)


def repeated(op: Conv2D, pixels: int) -> int:
    """How many pixels the last tile computes once more, so that it is as large as the others."""
    return -op.pixels % pixels


def each_tile(op: Conv2D, pixels: int, body: list[str], back: list[str]) -> list[str]:
    """`body` for each tile of pixels; `back` goes ahead of the last one where that begins inside the one before."""
    tiles = -(-op.pixels // pixels)
    if repeated(op, pixels):
        body = [f"if (tile == {tiles - 1}) {{ /* the last pixels, some of them once more */", *indent(back), "}", *body]
    return [f"for (int32_t tile = 0; tile < {tiles}; tile++) {{", *indent(body), "}"] if tiles > 1 else body


def step_back(window: Window, pixels: int) -> list[str]:
    """To where the last `pixels` begin."""
    op = window.op
    if window.contiguous:
        return [f"x -= {repeated(op, pixels) * op.channels};"]
    image, pixel = divmod(op.pixels - pixels, op.out_height * op.out_width)
    row, column = divmod(pixel, op.out_width)
    lines = [f"row = {row * op.strides[0] - op.pad[0]}, column = {column * op.strides[1] - op.pad[1]};"]
    return lines + ([f"x = images + {image * op.height * op.width * op.channels};"] if op.batch > 1 else [])


def tile_lines(window: Window, point: Point) -> list[str]:
    """All filters of one tile of outputs."""
    op = window.op
    pixels, pairs = tile_of(point)
    group = 2 * pairs
    return [
        *([] if point["direct"] else gather(window, pixels)),
        "const int32_t *v = w, *k = scale;",
        f"for (int8_t *o = y; o != y + {-(-op.filters // group) * group}; o += {group}, k += {6 * pairs}) {{",
        *indent(group_lines(window, point, "x" if point["direct"] else "scratch", "o")),
        "}",
        f"y += {pixels * op.filters};",
        *([f"x += {op.channels};"] if point["direct"] else []),
    ]


def filters_outside(window: Window, point: Point) -> list[str]:
    """All tiles of outputs for one group of filters after the other; `first` is what the group computes of the first pixel."""
    op = window.op
    pixels, pairs = tile_of(point)
    words, tiles = window.words * pixels, -(-op.pixels // pixels)
    widen = each_tile(op, pixels, [*gather(window, pixels), f"scratch += {words};"], step_back(window, pixels))
    tile = [
        "v = weights;",
        *group_lines(window, point, "at", "first"),
        f"o += {pixels * op.filters}, at += {op.channels if point['direct'] else words};",
    ]
    return [
        *([] if point["direct"] else [*widen, f"scratch -= {words * tiles};"]),
        "const int32_t *weights = w;",
        "int8_t *first = y;",
        f"for (const int32_t *k = scale; k != scale + {-(-op.filters // (2 * pairs)) * 6 * pairs}; k += {6 * pairs}) {{",
        f"  const {'int8_t *at = x' if point['direct'] else 'int32_t *at = scratch'};",
        "  const int32_t *v = weights;",
        "  int8_t *o = first;",
        *indent(each_tile(op, pixels, tile, [f"o -= {repeated(op, pixels) * op.filters};"])),
        f"  weights = v, first += {2 * pairs};",
        "}",
    ]


def group_lines(window: Window, point: Point, begin: str, first: str) -> list[str]:
    """One group of filters of one tile, whose pixels lie from `begin` on; `first` is its place in a pixel of y."""
    pixels, pairs = tile_of(point)
    return [
        *sums(window, point, pixels, pairs, begin),
        f"int32_t multiplier, shift{', bias' if point['weights'] == 'shared' else ''};",
        *(line for pair in range(pairs) for line in outputs(window.op, point, pixels, pairs, pair, first)),
    ]


def sums(window: Window, point: Point, pixels: int, pairs: int, begin: str) -> list[str]:
    """`a` and `b` of one group of filters."""
    step = Step(pixels, pairs, point["weights"] == "shared", bool(point["direct"]))
    start_a, start_b = ([f"k[{6 * pair + at}]" for pair in range(pairs)] for at in (0 if step.shared else 1, 0))
    lines = [f"const {step.x_type} *u = {begin};"]
    unroll = min(int(point["unroll"]), window.steps)
    loops, rest = divmod(window.steps, unroll)
    call = f"{step.name}(&u, &v, a, b);"
    if loops == 1 and pixels > 1:
        last = [pixels * (pair + 1) - 1 for pair in range(pairs)]
        lines += [f"int32_t a[{pixels * pairs}], b[{pixels * pairs}];"]
        lines += [f"a[{at}] = {a}, b[{at}] = {b};" for at, a, b in zip(last, start_a, start_b, strict=True)]
        return [*lines, f"{replace(step, first=True).name}(&u, &v, a, b);", *[call] * (window.steps - 1)]
    each_a, each_b = (", ".join(start for start in starts for _ in range(pixels)) for starts in (start_a, start_b))
    lines += [f"int32_t a[] = {{{each_a}}}, b[] = {{{each_b}}};", *[call] * rest]
    if loops == 1:
        return [*lines, *[call] * unroll]
    words = (4 if step.direct else 2 * pixels) * window.steps
    return [*lines, f"while (u != {begin} + {words}) {{", *[f"  {call}"] * unroll, "}"]


def outputs(op: Conv2D, point: Point, pixels: int, pairs: int, pair: int, first: str) -> list[str]:
    """The sums of one pair of filters, requantised and stored."""
    shared, clips = point["weights"] == "shared", (op.low, op.high) != (-128, 127)
    rescale = "stack_rescale_up" if op.low >= op.y_zero else "stack_rescale"
    missing = -(-op.filters // (2 * pairs)) * 2 * pairs - op.filters  # filters that only fill the last group
    lines = []
    for filter_, array in enumerate("ab"):
        lines.append(f"multiplier = k[{6 * pair + 2 + 2 * filter_}], shift = k[{6 * pair + 3 + 2 * filter_}];")
        if filter_ == 0 and shared:
            lines.append(f"bias = k[{6 * pair + 1}];")
        store = []
        for pixel in range(pixels):
            index = pair * pixels + pixel
            acc = f"bias + stack_high24(a[{index}], b[{index}])" if filter_ == 0 and shared else f"{array}[{index}]"
            if op.right_shifts:
                value = f"{rescale}({acc}, multiplier, shift, {op.y_zero})"
            else:
                value = f"stack_requantize({acc}, multiplier, shift) + {op.y_zero}"
            clipped = f"(int8_t)stack_clip({value}, {op.low}, {op.high})" if clips else f"stack_sat8({value})"
            store.append(f"o[{pixel * op.filters + 2 * pair + filter_}] = {clipped};")
        if 2 * pairs - (2 * pair + filter_) <= missing:
            store = [f"if ({first} + {2 * pair + filter_} < y + {op.filters}) {{", *(f"  {line}" for line in store), "}"]
        lines += store
    return lines
