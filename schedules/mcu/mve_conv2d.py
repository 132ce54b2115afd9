"""Convolutions and dense layers on cores with Helium: dot products over bytes that lie in a row.

    for pixels, one or two at a time:
      for filters, eight at a time: a block of `mve_dot`, clipped and stored

Where a pixel's patch lies in a row in the image, it is read from there; otherwise the rows that one row of outputs needs are first copied,
border and all, into scratch memory as [column][kernel_h][channel], where the patch of each pixel is one run of bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.s_tir import Schedule

from schedules import integer
from schedules.integer import Conv2D
from schedules.machine import Machine
from schedules.mcu import mve_dot, mve_requantize
from schedules.mcu.kernel import Kernel, as_schedule
from schedules.space import Array, Point, Space

TILES = {"4x2": (4, 2), "8x1": (8, 1)}  # filters x pixels


def mve_conv2d(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    """The rule: every convolution, where the machine has Helium. `tile` is filters x pixels of one block."""
    op = integer.read(program)
    if not machine.helium or not isinstance(op, Conv2D):
        return None

    def apply(point: Point) -> Schedule:
        return as_schedule(program, kernel(op, str(point["tile"])))

    def pack(point: Point, constants: Sequence[Array]) -> list[Array]:
        w, *vectors = constants
        return [mve_dot.pack(block(op, str(point["tile"])), in_order(op, w), *vectors)]

    runs = op.pixels // op.batch if op.strides == (1, 1) and direct(op) else op.out_width
    return Space("mve_conv2d", knobs={"tile": tuple(TILES)}, default={"tile": "4x2" if runs > 1 else "8x1"}, apply=apply, pack=pack)


def direct(op: Conv2D) -> bool:
    """Whether each pixel's patch is one run of bytes of the image, of at least one vector."""
    one_row = op.kernel_h == 1 or (op.kernel_w == op.width and op.dilation[0] == 1)
    return not op.padded and op.reduction >= mve_dot.LANES and one_row and (op.kernel_w == 1 or op.dilation[1] == 1)


def block(op: Conv2D, tile: str) -> mve_dot.Block:
    return mve_dot.Block(op, *TILES[tile], length=op.reduction)


def in_order(op: Conv2D, w: Array) -> Array:
    """The weights as [filters, length], in the order of a patch."""
    return (w if direct(op) else w.transpose(0, 2, 1, 3)).reshape(op.filters, -1)


@dataclass(frozen=True)
class Rows:
    """Scratch memory for the patches of one row of outputs. `pitch` is bytes from one pixel's patch to the next one's."""

    op: Conv2D

    @property
    def shared(self) -> bool:
        """Whether neighbours share columns; where taps are apart, each has its own."""
        return self.op.dilation[1] == 1

    @property
    def column(self) -> int:
        return self.op.kernel_h * self.op.channels

    @property
    def columns(self) -> int:
        op = self.op
        return (op.out_width - 1) * op.strides[1] + op.kernel_w if self.shared else op.out_width * op.kernel_w

    @property
    def pitch(self) -> int:
        return self.column * (self.op.strides[1] if self.shared else self.op.kernel_w)

    @property
    def bytes(self) -> int:
        return -(-(self.columns * self.column + mve_dot.LANES) // 4) * 4

    def fill(self) -> list[str]:
        """C: the patches of row `oy` of outputs of the image `image`."""
        op = self.op
        source = f"j - {op.pad[1]}"
        if not self.shared:
            source = f"j / {op.kernel_w} * {op.strides[1]} + j % {op.kernel_w} * {op.dilation[1]} - {op.pad[1]}"
        return [
            f"for (int32_t r = 0; r < {op.kernel_h}; r++) {{",
            f"  int32_t iy = oy * {op.strides[0]} + r * {op.dilation[0]} - {op.pad[0]};",
            f"  for (int32_t j = 0; j < {self.columns}; j++) {{",
            f"    int32_t ix = {source};",
            f"    int8_t *column = rows + j * {self.column} + r * {op.channels};",
            f"    if (iy >= 0 && iy < {op.height} && ix >= 0 && ix < {op.width})",
            f"      memcpy(column, image + (iy * {op.width} + ix) * {op.channels}, {op.channels});",
            "    else",
            f"      memset(column, {op.x_zero}, {op.channels});",
            "  }",
            "}",
        ]


def kernel(op: Conv2D, tile: str) -> Kernel:
    body: list[str] = []
    parameters = ["const int8_t *x", "const int8_t *constants", "int8_t *y"]
    rows = Rows(op)
    if not direct(op):
        parameters.append("void *scratch")
        patches = [*rows.fill(), "const int8_t *patch = rows;", *run_of_pixels(op, tile, op.out_width, rows.pitch)]
        body += ["int8_t *rows = scratch;", *each_row(op, patches)]
    elif op.strides == (1, 1) and op.kernel_h == op.kernel_w == 1:
        body += ["const int8_t *patch = x;", *run_of_pixels(op, tile, op.pixels, op.channels)]
    else:
        start = f"const int8_t *patch = image + oy * {op.strides[0] * op.width * op.channels};"
        body += each_row(op, [start, *run_of_pixels(op, tile, op.out_width, op.strides[1] * op.channels)])
    source = [f"static void KERNEL({', '.join(parameters)}) {{", *indent(body), "}"]
    return Kernel("#include <arm_mve.h>\n" + "\n".join(source), scratch=0 if direct(op) else rows.bytes)


def indent(lines: list[str]) -> list[str]:
    return ["  " + line for line in lines]


def each_row(op: Conv2D, lines: list[str]) -> list[str]:
    """C: `lines` for each row `oy` of outputs of each image."""
    rows = [f"for (int32_t oy = 0; oy < {op.out_height}; oy++) {{", *indent(lines), "}"]
    if op.batch == 1:
        return ["const int8_t *image = x;", *rows]
    start = f"const int8_t *image = x + n * {op.height * op.width * op.channels};"
    return [f"for (int32_t n = 0; n < {op.batch}; n++) {{", *indent([start, *rows]), "}"]


def run_of_pixels(op: Conv2D, tile: str, count: int, pitch: int) -> list[str]:
    """C: `count` outputs one after the other at `y`, from patches `pitch` bytes apart at `patch`."""
    step = TILES[tile][1]
    groups, tail = divmod(op.filters, mve_dot.GROUP)
    # Of an odd number of pixels the last makes a pair with itself.
    alone = f"pixel == {count - 1}" if count % 2 else ""
    choice = f"{alone} ? {{0}} : {{0}} + {{1}}" if alone else "{0} + {1}"
    variables = ["const int8_t *w = constants, *x0 = patch;", "int8_t *y0 = y;"]
    if step == 2:
        variables += [f"const int8_t *x1 = {choice.format('patch', pitch)};", f"int8_t *y1 = {choice.format('y', op.filters)};"]
    lines = []
    if groups:
        forward = [f"y{p} += {mve_dot.GROUP};" for p in range(step)]
        body = [*eight_filters(op, tile, "vstrbq_s16(y{0}, h{0});"), *forward]
        lines += [f"for (int32_t group = 0; group < {groups}; group++) {{", *indent(body), "}"]
    if tail:
        lines += ["{", *indent(eight_filters(op, tile, f"vstrbq_p_s16(y{{0}}, h{{0}}, vctp16q({tail}));")), "}"]
    return [
        f"for (int32_t pixel = 0; pixel < {count}; pixel += {step}) {{",
        *indent([*variables, *lines, f"patch += {step * pitch};", f"y += {step * op.filters};"]),
        "}",
        *([f"y -= {op.filters};"] if step == 2 and alone else []),
    ]


def eight_filters(op: Conv2D, tile: str, store: str) -> list[str]:
    """C: one block; `store` stores pixel {0}."""
    pixels = range(TILES[tile][1])
    looped = block(op, tile).looped
    lines = [f"int16x8_t {', '.join(f'h{p}' for p in pixels)};", *(["int32_t n;"] if looped else []), *block(op, tile).text().split("\n")]
    lines += [line for p in pixels for line in mve_requantize.clip_halves(op, f"h{p}")]
    return [*lines, *(store.format(p) for p in pixels)]
