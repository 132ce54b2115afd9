"""A row of tiles of depthwise outputs as one block of Helium instructions.

    for each filter:
      for eight outputs at a time, in tiles that share a patch:
        gather the patch, four words of four rows each; one VMLADAVA for each output, whose weights lie where its taps are in the patch
        requantise four outputs, then four more; narrow all eight, clip, store

With a 3x3 kernel and stride 1, a patch of 4x4 holds the taps of 2x2 outputs: one gather and four multiplications for 36 products. Patches
are found by a vector of four addresses that each gather moves on. VMLADAVA takes even registers only, and the compiler would not keep all
that in registers, hence assembly.
"""

from dataclasses import dataclass

import numpy as np

from schedules.integer import Depthwise
from schedules.mcu import mve_requantize
from schedules.space import Array

BLOCK = 16  # channels of one vector
WORD = 4 * BLOCK  # bytes of scratch for four rows of one column
RESIDENT = 4  # vectors of weights that stay in registers
TABLE = 32  # bytes before the columns: where the words of a patch are, and the outputs of two units
REACH = 508  # bytes that a gather moves its addresses at most
SUMS = ("r0", "r2", "r4", "r6")


def shapes(op: Depthwise) -> list[tuple[int, int]]:
    """The tiles that there may be, rows x columns."""
    sizes = [(rows, columns) for rows in (1, 2, 4) for columns in (1, 2, 4) if rows * columns <= 4]
    return [(rows, columns) for rows, columns in sizes if rows <= op.out_height and columns <= op.out_width]


@dataclass(frozen=True)
class Tile:
    """`rows` x `columns` outputs that share a patch; as many tiles side by side as make up to four outputs are a unit."""

    op: Depthwise
    rows: int
    columns: int

    @property
    def together(self) -> int:
        """Tiles of a unit."""
        return max(1, min(4 // (self.rows * self.columns), self.op.out_width // self.columns))

    @property
    def width(self) -> int:
        """Columns of outputs of a unit."""
        return self.together * self.columns

    @property
    def lanes(self) -> int:
        """Outputs of a unit."""
        return self.rows * self.width

    @property
    def image_rows(self) -> int:
        op = self.op
        return (self.rows - 1) * op.strides[0] + (op.kernel_h - 1) * op.dilation[0] + 1

    @property
    def groups(self) -> int:
        """Groups of four rows under one row of tiles."""
        return -(-self.image_rows // 4)

    @property
    def vectors(self) -> int:
        """Vectors of one patch, which has all columns from its first tap to its last."""
        op = self.op
        columns = (self.columns - 1) * op.strides[1] + (op.kernel_w - 1) * op.dilation[1] + 1
        return -(-columns * self.groups // 4)

    @property
    def weights(self) -> int:
        """Vectors of weights of one filter."""
        return self.rows * self.columns * self.vectors

    @property
    def stream(self) -> int:
        """Bytes of constants of one filter."""
        return 16 * self.weights + 4 * mve_requantize.count(self.op)

    @property
    def pairs(self) -> bool:
        """Whether two units are narrowed and stored together: their places fit 16 bits, and there are registers."""
        registers = not mve_requantize.rounds_from_zero(self.op) or self.weights != RESIDENT
        return registers and max(self.places()) < 1 << 16

    @property
    def cost(self) -> float:
        """Instructions for one output, to compare tiles with."""
        op = self.op
        units = -(-op.out_width // self.width) * -(-op.out_height // self.rows)
        unit = self.vectors * (self.together + self.lanes) + 10 + (self.weights * self.together if self.weights > RESIDENT else 0)
        filters = -(-op.out_height // self.rows) * (8 + self.weights)
        fill = -(-op.out_height // self.rows) * self.scratch_columns * self.groups * 14 / BLOCK
        return (units * unit + filters + fill) / (op.out_height * op.out_width)

    @property
    def scratch_columns(self) -> int:
        op = self.op
        return (op.out_width - 1) * op.strides[1] + (op.kernel_w - 1) * op.dilation[1] + 1

    @property
    def scratch(self) -> int:
        """Bytes, with the table; patches may reach behind the last column."""
        over = self.vectors * 4 - ((self.columns - 1) * self.op.strides[1] + (self.op.kernel_w - 1) * self.op.dilation[1] + 1) * self.groups
        return TABLE + (self.scratch_columns * self.groups + over) * WORD

    @property
    def step(self) -> int:
        """Bytes of scratch from one tile to the next one."""
        return self.columns * self.op.strides[1] * self.groups * WORD

    def places(self) -> list[int]:
        """Where the outputs of two units go: those of the first in even lanes."""
        at = [y * self.op.out_width + x for x in range(self.width) for y in range(self.rows)]
        at += at[:1] * (4 - len(at))
        return [(place + unit * self.width) * self.op.filters for place in at for unit in (0, 1)]


def pack_stream(tile: Tile, w: Array, bias: Array, multiplier: Array, shift: Array) -> Array:
    """For each filter: the numbers of its requantisation, then its weights [vector][output] in the form of a patch."""
    op = tile.op
    words = np.zeros((op.filters, tile.columns, tile.rows, tile.vectors * 4, 4), np.int8)
    for x in range(tile.columns):
        for y in range(tile.rows):
            for r in range(op.kernel_h):
                for s in range(op.kernel_w):
                    group, row = divmod(y * op.strides[0] + r * op.dilation[0], 4)
                    words[:, x, y, (x * op.strides[1] + s * op.dilation[1]) * tile.groups + group, row] = w[0, r, s]
    patches = words.reshape(op.filters, tile.columns * tile.rows, tile.vectors, 16).swapaxes(1, 2).reshape(op.filters, -1)
    return np.hstack([mve_requantize.scalars(op, bias, multiplier, shift), patches]).ravel().view(np.int32)


class Strip:
    """The instructions of one filter's row of tiles, written down in order; `at` is how far the addresses have moved."""

    def __init__(self, tile: Tile) -> None:
        self.tile, self.lines = tile, list[str]()
        self.at, self.to = -self.back, 0
        whole, rest = divmod(tile.op.out_width, tile.width)
        pairs = whole // 2 if tile.pairs else 0
        if pairs > 2:
            self.lines += [f"mov lr, #{pairs}", "dls lr, lr", "2:"]
            self.pair(0)
            self.forward(2 * tile.width)
            self.lines.append("le lr, 2b")
            self.at += (pairs - 1) * 2 * tile.together * tile.step
            self.to += (pairs - 1) * 2 * tile.width * tile.op.filters
        else:
            for number in range(pairs):
                self.pair(2 * number)
        for number in range(2 * pairs, whole):
            self.single(number * tile.width)
        if rest:
            self.single(tile.op.out_width - tile.width)

    @property
    def back(self) -> int:
        """How far before its patch the addresses are when a tile begins: where the tile before left them."""
        return self.tile.step - (self.tile.vectors - 1) * 4 * WORD

    def pair(self, unit: int) -> None:
        tile = self.tile
        self.forward(unit * tile.width)
        for part, register in enumerate(("q4", "q5")):
            self.unit((unit + part) * tile.width, register)
        self.lines += ["vqmovnb.s32 q4, q4", "vqmovnt.s32 q4, q5", *mve_requantize.clip(tile.op, ["q4"], mve_requantize.ZERO, "q5")]
        self.lines.append("vstrb.16 q4, [%[to], q7]")

    def single(self, column: int) -> None:
        self.forward(column)
        self.unit(column, "q4")
        self.lines += ["vqmovnb.s32 q4, q4", *mve_requantize.clip(self.tile.op, ["q4"], mve_requantize.ZERO, "q5")]
        self.lines += ["vmovlb.u16 q5, q7", "vstrb.32 q4, [%[to], q5]"]

    def forward(self, column: int) -> None:
        """`to` at this column of the output."""
        distance = column * self.tile.op.filters - self.to
        self.to += distance
        self.lines += add("%[to]", distance)

    def unit(self, column: int, acc: str) -> None:
        """Up to four outputs from `column` on, requantised, in the lanes of `acc`."""
        tile, place = self.tile, 0
        resident = tile.weights <= RESIDENT
        outputs = tile.rows * tile.columns
        for number in range(tile.together):
            start = column * tile.op.strides[1] * tile.groups * WORD + number * tile.step
            for v in range(tile.vectors):
                self.gather(acc, start + v * 4 * WORD, spare=SUMS[number * outputs])
                for output in range(outputs):
                    weights = f"q{v * outputs + output}" if resident else f"q{place % 2}"
                    self.lines += [] if resident else [f"vldrb.8 {weights}, [%[w]], #16"]
                    multiply = "vmladava" if v else "vmladav"
                    self.lines.append(f"{multiply}.s8 {SUMS[number * outputs + output]}, {acc}, {weights}")
                    place += 1
            self.lines += [] if resident else add("%[w]", -16 * tile.weights)
        sums = [SUMS[min(lane, tile.lanes - 1)] if lane < tile.lanes else SUMS[0] for lane in range(4)]
        self.lines += [f"vmov {acc}[{lane + 2}], {acc}[{lane}], {sums[lane]}, {sums[lane + 2]}" for lane in (0, 1)]
        self.lines += mve_requantize.by_scalars(tile.op, acc, spare="q3" if acc == "q5" or tile.pairs else "q5")

    def gather(self, register: str, at: int, spare: str) -> None:
        """The patch's vector `at` bytes from the first column on; a long way there overwrites `spare`."""
        distance = at - self.at
        if abs(distance) > REACH:
            self.lines += move("q6", distance, spare)
        self.lines.append(f"vldrw.u32 {register}, [q6{f', #{distance}]!' if abs(distance) <= REACH else ']'}")
        self.at = at


def add(register: str, distance: int) -> list[str]:
    """A scalar register moved by any distance."""
    name, left, lines = "add" if distance > 0 else "sub", abs(distance), []
    while left:
        lines.append(f"{name} {register}, {register}, #{min(left, 4080)}")
        left -= min(left, 4080)
    return lines


def move(register: str, distance: int, spare: str) -> list[str]:
    """A vector of addresses moved by any distance; `spare` is overwritten."""
    name, size = "vadd" if distance > 0 else "vsub", abs(distance)
    high = [f"movt {spare}, #{size >> 16}"] if size >> 16 else []
    return [f"movw {spare}, #{size & 0xFFFF}", *high, f"{name}.i32 {register}, {register}, {spare}"] if size else []


def filters(tile: Tile, count: int, advance: int) -> list[str]:
    """C: `count` filters, whose patches are `advance` bytes apart; `w`, `to` and `table`, the addresses of the first patch, are given."""
    strip = Strip(tile)
    resident = tile.weights <= RESIDENT
    numbers = mve_requantize.SCALARS[: mve_requantize.count(tile.op)]
    lines = [
        "vldrw.u32 q6, [%[n]]",
        "vldrh.u16 q7, [%[n], #16]",
        *mve_requantize.prepare(tile.op),
        f"mov %[n], #{count}",
        "1:",
        f"ldm %[w]!, {{{', '.join(numbers)}}}",
        *([f"vldrb.8 q{number}, [%[w]], #16" for number in range(tile.weights)] if resident else []),
        *strip.lines,
        *([] if resident else add("%[w]", 16 * tile.weights)),
        *add("%[to]", 1 - strip.to),
        *move("q6", advance - strip.at - strip.back, SUMS[0]),
        "subs %[n], #1",
        "bne 1b",
    ]
    body = "\n".join(f'    "{line}\\n"' for line in lines)
    registers = (*SUMS, *mve_requantize.SCALARS, mve_requantize.ZERO, "lr", *(f"q{number}" for number in range(8)), "cc", "memory")
    clobbers = ", ".join(f'"{name}"' for name in registers)
    return [
        'register const int32_t *w_now __asm("r10") = w;',
        'register int8_t *to_now __asm("r11") = to;',
        'register const uint32_t *n __asm("r12") = table;',
        *f'__asm volatile(\n{body}\n    : [w] "+r"(w_now), [to] "+r"(to_now), [n] "+r"(n) : : {clobbers});'.split("\n"),
        "w = w_now;",
        "to = to_now;",
    ]
