"""The filters of one or two pixels as one block of Helium instructions: dot products in scalar registers, requantised as vectors.

    for eight filters at a time:
      tile (4, 2):  4 filters x 2 pixels, twice        tile (4, 1):  the same for one pixel        tile (8, 1):  8 filters x 1 pixel
      narrow, clip and store eight outputs of each pixel

Each VMLADAVA.S8 adds 16 products to a scalar register; it takes only the even ones, so the eight accumulators are r0, r2 ... r14, and
everything else lives in odd registers. The compiler keeps neither to that nor to loads with write-back, hence assembly. One stream of
constants is read from its begin to its end: of each tile the weights, 16 of each filter in turn, then what requantises four filters.
Narrowing leaves even filters in even lanes and odd ones in odd lanes, so the first four of eight are the even ones.
"""

from dataclasses import dataclass

import numpy as np

from schedules.integer import Convolution
from schedules.mcu import mve_requantize
from schedules.space import Array

LANES, GROUP = 16, 8  # products of one instruction; filters stored at once
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # filters of a group as they lie in the stream
SUMS = ("r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr")
NEAR = 8  # steps that a load's offset reaches
STRAIGHT = 9  # steps without a loop
UNROLL = 4
OPERANDS = (("const int32_t *", "w", "r9"), ("const int8_t *", "x0", "r3"), ("int8_t *", "to", "r1"))


@dataclass(frozen=True)
class Block:
    """`length` products in each output. Where there are fewer than 16, 16 bytes are read; otherwise none behind them."""

    op: Convolution
    filters: int
    pixels: int
    length: int

    @property
    def steps(self) -> int:
        return -(-self.length // LANES)

    @property
    def back(self) -> int:
        """Bytes that the second step has in common with the first; their weights are zero there."""
        return self.steps * LANES - self.length if self.steps > 1 else 0

    @property
    def looped(self) -> bool:
        return self.steps > STRAIGHT

    def text(self, pitch: int) -> list[str]:
        """C: all filters of the pixels at `x0` and `x0 + pitch`, stored from `to` on; `constants` is the stream."""
        groups, tail = divmod(self.op.filters, GROUP)
        pair = self.pixels == 2
        lines = self.load(0) if self.steps == 1 else []
        if groups > 1:
            lines += [f"mov r11, #{groups}", "1:", *self.group(), "subs r11, #1", "bne 1b"]
        elif groups:
            lines += self.group()
        lines += self.group(tail) if tail else []
        registers = [name for name in ("r5", "r11", *SUMS) if not (pair and name == "r5")]
        clobbers = ", ".join(f'"{name}"' for name in (*registers, *(f"q{number}" for number in range(8)), "cc", "memory"))
        values = {"w": "constants", "x0": "patch", "x1": f"patch + {pitch}", "to": "y"}
        operands = [*OPERANDS, *([("const int8_t *", "x1", "r5")] if pair else [])]
        outputs = ", ".join(f'[{name}] "+r"({name})' for _, name, _ in operands)
        body = [f'    "{line}\\n"' for line in lines]
        return [
            *(f'register {kind}{name} __asm("{register}") = {values[name]};' for kind, name, register in operands),
            "__asm volatile(",
            *body,
            f"    : {outputs} : : {clobbers});",
        ]

    def group(self, stored: int = GROUP) -> list[str]:
        """Eight filters, of which `stored` are stored."""
        op, lines = self.op, list[str]()
        saved = self.looped and self.pixels == 2  # r11 counts the groups and the steps
        for half in range(GROUP // self.filters):
            lines += [*(["vmov s28, r11"] if saved else []), *self.products(), *(["vmov r11, s28"] if saved else [])]
            if self.pixels == 2:
                lines += [*lanes("q2", SUMS[:4]), *lanes("q3", SUMS[4:]), *mve_requantize.by_vectors(op, ["q2", "q3"])]
                lines += [f"vqmovn{'bt'[half]}.s32 q4, q2", f"vqmovn{'bt'[half]}.s32 q5, q3"]
            elif self.filters == 4:
                lines += [*lanes("q2", SUMS[:4]), *mve_requantize.by_vectors(op, ["q2"]), f"vqmovn{'bt'[half]}.s32 q4, q2"]
            else:
                lines += [*lanes("q2", SUMS[:4]), *lanes("q3", SUMS[4:])]
                lines += [*mve_requantize.by_vectors(op, ["q2"]), *mve_requantize.by_vectors(op, ["q3"])]
                lines += ["vqmovnb.s32 q4, q2", "vqmovnt.s32 q4, q3"]
        lines += mve_requantize.clip(op, ["q4", "q5"][: self.pixels], zero="r0", spare="q6")
        other = [f"movw r0, #{op.filters}", "add r0, r0, %[to]"] if op.filters > 4080 else [f"add r0, %[to], #{op.filters}"]
        if stored == GROUP:
            return [*lines, *([*other, "vstrb.16 q5, [r0]"] if self.pixels == 2 else []), f"vstrb.16 q4, [%[to]], #{GROUP}"]
        # The predicate register cannot be named to the compiler: it is left as it was.
        lines += ["vmrs r2, p0", f"mov r4, #{stored}", "vctp.16 r4", "vpst", "vstrbt.16 q4, [%[to]]"]
        return [*lines, *([*other, "vpst", "vstrbt.16 q5, [r0]"] if self.pixels == 2 else []), "vmsr p0, r2"]

    def products(self) -> list[str]:
        """All steps; of many, the last ones in a loop."""
        rounds = (self.steps - 1) // UNROLL if self.looped else 0
        lines = [line for number in range(self.steps - rounds * UNROLL) for line in self.step(number)]
        if rounds:
            count = "r11" if self.pixels == 2 else "r5"
            lines += [f"mov {count}, #{rounds}", "2:", *self.step(self.steps) * UNROLL, f"subs {count}, #1", "bne 2b"]
        if self.steps > NEAR:
            left = self.length
            while left > 0:
                lines += [f"sub %[x{pixel}], %[x{pixel}], #{min(left, 4080)}" for pixel in range(self.pixels)]
                left -= 4080
        return lines

    def load(self, number: int) -> list[str]:
        """16 bytes of each pixel."""
        if self.steps <= NEAR:
            offset = number * LANES - (self.back if number else 0)
            return [f"vldrb.8 q{pixel}, [%[x{pixel}], #{offset}]" for pixel in range(self.pixels)]
        return [f"vldrb.8 q{pixel}, [%[x{pixel}]], #{LANES - (0 if number else self.back)}" for pixel in range(self.pixels)]

    def step(self, number: int) -> list[str]:
        """16 products of each output: loads between multiplications, which cores with two stages overlap."""
        multiply = "vmladava" if number else "vmladav"
        lines = self.load(number) if self.steps > 1 else []
        for f in range(self.filters):
            weights = f"q{2 + f % 2}"
            lines.append(f"vldrb.8 {weights}, [%[w]], #16")
            for pixel in range(self.pixels):
                lines.append(f"{multiply}.s8 {SUMS[f + pixel * self.filters]}, q{pixel}, {weights}")
        return lines


def lanes(register: str, sums: tuple[str, ...]) -> list[str]:
    return [f"vmov {register}[{lane + 2}], {register}[{lane}], {sums[lane]}, {sums[lane + 2]}" for lane in (0, 1)]


def pack(block: Block, w: Array, bias: Array, multiplier: Array, shift: Array) -> Array:
    """The stream of one layer; w is [filters, length]."""
    groups = -(-len(w) // GROUP)
    order = (np.arange(groups)[:, None] * GROUP + ORDER).ravel()

    def pad(a: Array) -> Array:
        return np.pad(a, [(0, groups * GROUP - len(a)), *[(0, 0)] * (a.ndim - 1)])[order]

    taps = np.zeros((groups * GROUP, block.steps * LANES), np.int8)
    head = min(LANES, block.length)
    taps[:, :head] = pad(w[:, :head])
    taps[:, LANES + block.back :] = pad(w[:, head:])
    tiles = taps.reshape(-1, block.filters, block.steps, LANES).swapaxes(1, 2).reshape(len(taps) // block.filters, -1)
    numbers = mve_requantize.vectors(block.op, pad(bias), pad(multiplier), pad(shift))
    return np.hstack([tiles, numbers.reshape(len(tiles), -1)]).ravel().view(np.int32)
