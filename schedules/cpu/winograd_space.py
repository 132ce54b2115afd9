"""The points of Winograd's algorithm for one 3x3 convolution, what each is expected to cost, and the best of them without any search.

Transformed weights are 16/9 (2x2) or 4 times (4x4) as large as before, so layers of few pixels and many channels stay direct: they would
wait for weights. Estimates are in cycles of one core; the rates were measured on layers of 16 to 512 channels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tvm.s_tir import Schedule

from schedules.cpu.loops import divisors
from schedules.cpu.winograd import Blocking, Conv3x3, packed_weight, winograd
from schedules.loopnest import Column, Loop, LoopNest, Operand, dim
from schedules.machine import Machine
from schedules.space import Array, Point, Value

SIDES = {"winograd2": 2, "winograd4": 4}  # algorithm -> results along one side of a tile
WIDEST = 4  # vectors of filters in a tile
STREAM = 5.0  # bytes a cycle from beyond the second-level cache
AHEAD = 7.5  # the same where they are fetched ahead, as Winograd's weights are by default
BUSY = 0.9  # of the multiply-add units, in loops whose operands are in the caches
TRANSFORM = 3.5  # cycles for each vector that a transform reads
MARGIN = 0.85  # of the direct estimate that Winograd's must stay below: it is the one with more memory traffic


@dataclass(frozen=True)
class Winograd:
    """What Winograd adds to the space of the convolution `conv`, on `machine`."""

    conv: Conv3x3
    machine: Machine

    @property
    def k_blocks(self) -> int:
        return self.conv.shape[1]

    @cached_property
    def knobs(self) -> dict[str, Sequence[Value]]:
        """The sizes of its tiles, by the names of those of the direct loops: tiles beside one another, and register tiles in a block."""
        most = self.conv.tile_count(2)
        tiles = [count for count in (1, 2, 3, 4, 6, 7, 8, 10, 12, 13, 14) if count <= most]
        return {
            "tile_k": divisors(self.k_blocks, WIDEST),
            "tile_w": tiles,
            "tile_h": (1, 2, 4, 8),
            "rows_outside": (False, True),
            "prefetch": (False, True),
            "algorithm": tuple(SIDES),
        }

    def holds(self, point: Point) -> bool:
        """Whether the values of `point` are among its own, and the schedule is legal."""
        return all(point[name] in values for name, values in self.knobs.items()) and self.legal(self.blocking(point))

    def apply(self, point: Point) -> Schedule:
        return winograd(self.conv, self.blocking(point))

    def blocking(self, point: Point) -> Blocking:
        tile_k, tile_t, groups = (int(point[name]) for name in ("tile_k", "tile_w", "tile_h"))
        return Blocking(SIDES[str(point["algorithm"])], tile_k, tile_t, groups, not point["rows_outside"], bool(point["prefetch"]))

    def point(self, at: Blocking) -> dict[str, Value]:
        algorithm = next(name for name, m in SIDES.items() if m == at.m)
        return {
            "tile_k": at.tile_k,
            "tile_h": at.groups,
            "tile_w": at.tile_t,
            "rows_outside": not at.apart,
            "prefetch": at.prefetch,
            "algorithm": algorithm,
        }

    def legal(self, at: Blocking) -> bool:
        """Accumulators, weights and a pixel in registers, at most a quarter of the last block empty, and scratch memory within reason."""
        count = self.conv.tile_count(at.m)
        blocks = -(-count // at.block)
        kept = 4 * at.products * self.conv.c_blocks * self.conv.lanes * at.block * (blocks if at.apart else 1)
        return (
            at.tile_k * (at.tile_t + 1) < self.machine.vector_registers
            and (at.groups == 1 or 4 * (blocks * at.block - count) <= blocks * at.block)
            and kept <= 8 * self.machine.l2_bytes
        )

    def points(self) -> Iterator[Blocking]:
        knobs = self.knobs
        for m in SIDES.values():
            for tile_k in divisors(self.k_blocks, WIDEST):
                for tile_t in map(int, knobs["tile_w"]):
                    for groups in map(int, knobs["tile_h"]):
                        for apart in (False, True):
                            at = Blocking(m, tile_k, tile_t, groups, apart, prefetch=True)
                            if self.legal(at):
                                yield at

    def default(self) -> dict[str, Value] | None:
        """The point with the lowest estimate where that is clearly below the direct one's."""
        costs = [(self.cycles(at), index, at) for index, at in enumerate(self.points())]
        cost, _, best = min(costs, default=(float("inf"), 0, None))
        if best is None or cost > MARGIN * self.direct_cycles():
            return None
        return self.point(best)

    def direct_cycles(self) -> float:
        n, k, h, w, lanes = self.conv.shape
        macs = 9 * n * k * h * w * self.conv.c_blocks * lanes  # vectors of them
        return macs / self.machine.fma_ports / BUSY + 4 * 9 * k * lanes * self.conv.c_blocks * lanes / STREAM

    def cycles(self, at: Blocking) -> float:
        count, c_blocks, lanes = self.conv.tile_count(at.m), self.conv.c_blocks, self.conv.lanes
        blocks, panels = -(-count // at.block), self.k_blocks // at.tile_k
        step = max(at.tile_t * at.tile_k / self.machine.fma_ports, (at.tile_t + at.tile_k) / 2, 4) + 0.5
        multiply = at.products * blocks * at.groups * panels * (c_blocks * lanes * step / BUSY + 12)
        panel_bytes = 4 * at.products * c_blocks * lanes * lanes * at.tile_k
        window_bytes = 4 * at.products * c_blocks * lanes * at.block * (blocks if at.apart else 1)
        sum_bytes = 4 * at.products * lanes * at.tile_k * at.block
        l2 = self.machine.l2_bytes // 2
        resident = panel_bytes if at.apart else panel_bytes * panels  # weights that have to stay for the next block
        passes = 1 if resident + sum_bytes + window_bytes // (blocks if at.apart else 1) <= 1.5 * l2 else blocks
        moved = panel_bytes * panels * passes
        if window_bytes + sum_bytes > 1.5 * l2:
            moved += window_bytes * panels
        if at.apart and window_bytes > l2:
            moved += 2 * window_bytes
        transform = TRANSFORM * at.products * blocks * at.block * (c_blocks + self.k_blocks)
        tasks = panels * blocks if at.apart else blocks
        idle = -(-tasks // self.machine.cores) * self.machine.cores / tasks
        return (multiply + transform + moved / AHEAD) * idle

    def pack(self, point: Point, constants: Sequence[Array]) -> list[Array]:
        where = self.conv.place_of_weights(constants)
        return [packed_weight(array, self.blocking(point)) if place == where else array for place, array in enumerate(constants)]

    def nests(self, knobs: Mapping[str, str | bool | Column]) -> Sequence[LoopNest]:
        """The products, and the two transforms."""
        m = SIDES[str(knobs["algorithm"])]
        apart = not knobs["rows_outside"]
        tile_k, tile_t, groups = (np.asarray(knobs[name]) for name in ("tile_k", "tile_w", "tile_h"))
        conv, lanes, size = self.conv, self.conv.lanes, m + 2
        products, c, count = size * size, conv.c_blocks * conv.lanes, conv.tile_count(m)
        block = tile_t * groups
        blocks, panels = -(-count // block), self.k_blocks // tile_k
        v_block = products * (c * block + lanes)  # elements of V for one block
        kept = (dim(block=1),) if apart else ()
        outer = [Loop("panel", panels, "parallel" if apart else "serial"), Loop("block", blocks, "parallel")]
        multiply = LoopNest(
            loops=(
                *(outer if apart else outer[::-1]),
                Loop("p", products),
                Loop("group", groups),
                Loop("c", c, reduces=True),
                Loop("t", tile_t, "unrolled"),
                Loop("k", tile_k, "unrolled"),
                Loop("lane", lanes, "vector"),
            ),
            operands=(
                Operand("windows", 4, "read", (*kept, dim(p=1), dim(c=1), dim(group=tile_t, t=1))),
                Operand("weight", 4, "read", (dim(panel=1), dim(p=1), dim(c=1), dim(k=lanes, lane=1))),
                Operand("sums", 4, "accumulate", (dim(p=1), dim(group=tile_t, t=1), dim(k=1), dim(lane=1))),
            ),
            steps=1.0 * products * panels * blocks * block * c * tile_k * lanes,
            numbers={
                "prefetch": int(bool(knobs["prefetch"])),
                "panel_bytes": 4.0 * products * c * lanes * tile_k,
                "window_bytes": 4.0 * v_block * (blocks if apart else 1),
            },
        )
        forward = LoopNest(
            loops=(
                Loop("block", blocks, "parallel"),
                Loop("c", conv.c_blocks, "parallel" if apart else "serial"),
                Loop("t", block),
                Loop("p", products, "unrolled"),
                Loop("lane", lanes, "vector"),
            ),
            operands=(
                Operand("data", 4, "read", (dim(c=1), dim(block=block * m * m, t=m * m, p=m * m / products), dim(lane=1))),
                Operand("windows", 4, "write", (*kept, dim(p=1), dim(c=block, t=1), dim(lane=1))),
            ),
            steps=1.0 * blocks * block * conv.c_blocks * products * lanes,
        )
        back = LoopNest(
            loops=(
                *(outer if apart else outer[::-1]),
                Loop("k", tile_k),
                Loop("t", block),
                Loop("p", products, "unrolled"),
                Loop("lane", lanes, "vector"),
            ),
            operands=(
                Operand("sums", 4, "read", (dim(p=1), dim(t=tile_k, k=1), dim(lane=1))),
                Operand("out", 4, "write", (dim(panel=tile_k, k=1), dim(block=block * m * m, t=m * m, p=m * m / products), dim(lane=1))),
            ),
            steps=1.0 * blocks * block * self.k_blocks * products * lanes,
        )
        return [multiply, forward, back]
