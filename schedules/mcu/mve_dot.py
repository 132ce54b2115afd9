"""Eight filters' outputs as one block of Helium instructions: a tile of dot products in scalar registers, requantised as vectors.

    tile (4, 2):  4 filters x 2 pixels twice: h0 holds the 8 filters of pixel x0, h1 those of x1
    tile (8, 1):  8 filters of one pixel: h0

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

LANES, GROUP = 16, 8  # products of one instruction; filters of one block
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # filters of a group as they lie in the stream
ACCUMULATORS = ("r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr")
UNROLL = 4


@dataclass(frozen=True)
class Block:
    """`length` products in each output. Where there are fewer than 16, 16 bytes are read; otherwise none behind them, as the last step
    looks back."""

    op: Convolution
    filters: int
    pixels: int
    length: int

    @property
    def steps(self) -> int:
        return -(-self.length // LANES)

    @property
    def back(self) -> int:
        """Bytes that the last step has in common with the one before it; their weights are zero there."""
        return self.steps * LANES - self.length if self.length > LANES else 0

    def text(self) -> str:
        """A C statement that reads x0 (and x1) and advances w; it sets h0 (and h1), eight filters saturated to 16 bits."""
        lines = []
        for half in range(GROUP // self.filters):
            lines += self.products()
            lines += [f"vmov q2[{lane + 2}], q2[{lane}], {ACCUMULATORS[lane]}, {ACCUMULATORS[lane + 2]}" for lane in (0, 1)]
            lines += [f"vmov q3[{lane + 2}], q3[{lane}], {ACCUMULATORS[lane + 4]}, {ACCUMULATORS[lane + 6]}" for lane in (0, 1)]
            if self.pixels == 2:
                lines += mve_requantize.by_vectors(self.op, ["q2", "q3"])
                lines += [f"vqmovn{'bt'[half]}.s32 %q[h{pixel}], q{pixel + 2}" for pixel in (0, 1)]
            else:
                lines += mve_requantize.by_vectors(self.op, ["q2"]) + mve_requantize.by_vectors(self.op, ["q3"])
                lines += ["vqmovnb.s32 %q[h0], q2", "vqmovnt.s32 %q[h0], q3"]
        outputs = ['[w] "+r"(w)'] + [f'[x{p}] "+r"(x{p}), [h{p}] "=&w"(h{p})' for p in range(self.pixels)]
        outputs += ['[n] "=&r"(n)'] if self.looped else []
        clobbers = ", ".join(f'"{name}"' for name in (*ACCUMULATORS, "q0", "q1", "q2", "q3", "cc", "memory"))
        body = "\n".join(f'    "{line}\\n"' for line in lines)
        return f"__asm volatile(\n{body}\n    : {', '.join(outputs)} : : {clobbers});"

    @property
    def looped(self) -> bool:
        return self.steps >= 3 * UNROLL

    def products(self) -> list[str]:
        """All steps: the first sets the accumulators; of many, a loop takes UNROLL at a time."""
        done = min(self.steps, UNROLL) if self.looped else self.steps
        lines = [line for number in range(done) for line in self.step(number)]
        if self.looped:
            rounds = (self.steps - 1) // UNROLL
            lines += [f"mov %[n], #{rounds - 1}", "1:", *self.step(1) * UNROLL, "subs %[n], #1", "bne 1b"]
            lines += [line for number in range(rounds * UNROLL, self.steps) for line in self.step(number)]
        back = self.steps * LANES - self.back
        return lines + [line for start in range(0, back, 4080) for line in self.rewind(min(4080, back - start))]

    def rewind(self, bytes: int) -> list[str]:
        return [f"sub %[x{pixel}], #{bytes}" for pixel in range(self.pixels)]

    def step(self, number: int) -> list[str]:
        """16 products of each output: loads between multiplications, which cores with two stages overlap."""
        multiply = "vmladava" if number else "vmladav"
        lines = self.rewind(self.back) if self.back and number == self.steps - 1 else []
        lines += [f"vldrb.8 q{pixel}, [%[x{pixel}]], #16" for pixel in range(self.pixels)]
        for f in range(self.filters):
            weights = f"q{2 + f % 2}"
            lines.append(f"vldrb.8 {weights}, [%[w]], #16")
            for pixel in range(self.pixels):
                lines.append(f"{multiply}.s8 {ACCUMULATORS[f + pixel * self.filters]}, q{pixel}, {weights}")
        return lines


def pack(block: Block, w: Array, bias: Array, multiplier: Array, shift: Array) -> Array:
    """The stream of one layer; w is [filters, length]."""
    groups = -(-len(w) // GROUP)
    order = (np.arange(groups)[:, None] * GROUP + ORDER).ravel()

    def pad(a: Array) -> Array:
        return np.pad(a, [(0, groups * GROUP - len(a)), *[(0, 0)] * (a.ndim - 1)])[order]

    taps = np.zeros((groups * GROUP, block.steps * LANES), np.int8)
    head = (block.steps - 1) * LANES if block.back else block.length
    taps[:, :head], taps[:, head + block.back : block.back + block.length] = pad(w[:, :head]), pad(w[:, head:])
    tiles = taps.reshape(-1, block.filters, block.steps, LANES).swapaxes(1, 2).reshape(len(taps) // block.filters, -1)
    numbers = mve_requantize.vectors(block.op, pad(bias), pad(multiplier), pad(shift))
    return np.hstack([tiles, numbers.reshape(len(tiles), -1)]).ravel().astype(np.int8)
