"""Convolutions and dense layers on cores with Helium: dot products over bytes that lie in a row.

    for pixels, one or two at a time:
      for filters, eight at a time: a block of `mve_dot`, clipped and stored

Where a pixel's patch lies in a row in the image, it is read from there; otherwise the rows that one row of outputs needs are first copied,
border and all, into scratch memory as [column][kernel_h][channel], where the patch of each pixel is one run of bytes.
"""

from collections.abc import Sequence

from tvm import tirx
from tvm.s_tir import Schedule

from schedules import integer
from schedules.integer import Conv2D
from schedules.loopnest import LoopNest
from schedules.machine import Machine
from schedules.mcu import mve_dot, nests
from schedules.mcu.kernel import Kernel, as_schedule
from schedules.mcu.mve_rows import Rows
from schedules.mcu.overlap import row_major
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
    return Space(
        "mve_conv2d",
        knobs={"tile": tuple(TILES)},
        default={"tile": "4x2" if runs > 1 else "8x1"},
        apply=apply,
        pack=pack,
        nests=lambda columns: [nest(op, str(columns["tile"]), runs)],
    )


def nest(op: Conv2D, tile: str, run: int) -> LoopNest:
    """A step loads its pixels and its weights; of a run of pixels, those that fill no tile are alone."""
    filters, pixels = TILES[tile]
    steps = block(op, tile).steps

    def instructions(pixels: int) -> int:
        return mve_dot.GROUP // filters * steps * (pixels + filters + pixels * filters) + 4 * nests.RESCALE * pixels

    whole, rest = divmod(run, pixels)
    each = whole * instructions(pixels) + rest * instructions(1)
    scratch = 0 if direct(op) else Rows(op).bytes
    total = op.pixels // max(run, 1) * -(-op.filters // mve_dot.GROUP) * each
    return nests.convolution(op, op.reduction, pixels, filters, mve_dot.LANES, total, scratch)


def direct(op: Conv2D) -> bool:
    """Whether each pixel's patch is one run of bytes of the image, of at least one vector."""
    one_row = op.kernel_h == 1 or (op.kernel_w == op.width and op.dilation[0] == 1)
    return not op.padded and op.reduction >= mve_dot.LANES and one_row and (op.kernel_w == 1 or op.dilation[1] == 1)


def block(op: Conv2D, tile: str) -> mve_dot.Block:
    return mve_dot.Block(op, *TILES[tile], length=op.reduction)


def in_order(op: Conv2D, w: Array) -> Array:
    """The weights as [filters, length], in the order of a patch."""
    return (w if direct(op) else w.transpose(0, 2, 1, 3)).reshape(op.filters, -1)


def kernel(op: Conv2D, tile: str) -> Kernel:
    parameters = ["const int8_t *x", "const int32_t *constants", "int8_t *y"]
    body: list[str] = []
    scratch = 0
    if not direct(op):
        rows = Rows(op)
        scratch = rows.bytes
        parameters.append("void *scratch")
        patches = [*rows.fill(), "const int8_t *patch = rows;", *run_of_pixels(op, tile, op.out_width, rows.pitch)]
        body += ["int8_t *rows = scratch;", *rows.begin(), *each_row(op, patches)]
        overlap = row_major(op, op.out_width)
    elif op.strides == (1, 1) and op.kernel_h == op.kernel_w == 1:
        body += ["const int8_t *patch = x;", *run_of_pixels(op, tile, op.pixels, op.channels)]
        overlap = row_major(op, TILES[tile][1], reads_first=False)
    else:
        start = f"const int8_t *patch = image + oy * {op.strides[0] * op.width * op.channels};"
        body += each_row(op, [start, *run_of_pixels(op, tile, op.out_width, op.strides[1] * op.channels)])
        overlap = row_major(op, 1, reads_first=False) + (TILES[tile][1] - 1) * op.filters  # a pair may begin anywhere
    source = [f"static void KERNEL({', '.join(parameters)}) {{", *indent(body), "}"]
    return Kernel("#include <arm_mve.h>\n" + "\n".join(source), scratch, overlap)


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
    """C: `count` outputs one after the other at `y`, from patches `pitch` bytes apart at `patch`; of an odd number the last is alone."""
    filters, step = TILES[tile]
    whole, rest = divmod(count, step)
    lines: list[str] = []
    if whole:
        body = [*block(op, tile).text(pitch), f"patch += {step * pitch};", f"y += {step * op.filters};"]
        lines += [f"for (int32_t pixel = 0; pixel < {whole}; pixel++) {{", *indent(body), "}"]
    if rest:
        alone = mve_dot.Block(op, filters, 1, op.reduction)
        lines += ["{", *indent([*alone.text(pitch), f"y += {op.filters};"]), "}"]
    return lines
