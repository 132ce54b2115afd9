"""Offsets in one arena for all buffers of a network, with outputs over their inputs where kernels allow it.

    buffers [a: 8000 bytes, steps 0..1] [b: 8000 bytes, steps 1..2], overlap b over a at 0      ->   both at offset 0, arena 8000

Placing intervals so that the peak is least is NP-hard. A network's buffers are few, so: greedy placements in several orders (Pisarchyk &
Lee 2020, arXiv:2001.03288), then a local search over orders with a fixed seed, which stops at a lower bound that no placement beats.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

ON_STACK = -1  # the `memory` of scratch that lies on the stack
PATIENCE = 300  # rounds of the local search without a smaller arena; each places all buffers once ...
EFFORT = 30_000  # ... and for large networks as many as place so many buffers


@dataclass(eq=False)
class Buffer:
    """`first` and `last` are the steps that touch it, both included; `memory` is the arena it lies in, where there are several.

    `scratch` marks what one kernel writes and reads, and nobody else.
    """

    name: str
    bytes: int
    first: int
    last: int
    align: int = 4
    offset: int = 0
    memory: int = 0
    scratch: bool = False

    def meets(self, other: "Buffer") -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Overlap:
    """`over`, made by a step, may lie over `under`, read last by that step, where it begins `distance` or more bytes below it.

    `exact` allows that distance alone. Without common bytes they may lie anyhow.
    """

    over: Buffer
    under: Buffer
    distance: int
    exact: bool = False

    def allows(self) -> bool:
        below = self.under.offset - self.over.offset
        return below == self.distance if self.exact else below >= self.distance

    def together(self) -> int:
        """Bytes that both need at the least."""
        start = max(self.distance, 0)  # where `under` begins in the best placement
        return max(start + self.under.bytes, start - self.distance + self.over.bytes)


def apart(a: Buffer, b: Buffer) -> bool:
    return a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset


def live_bound(buffers: Sequence[Buffer], overlaps: Sequence[Overlap] = ()) -> int:
    """Bytes below which no placement can be: the largest sum of what lives at one step, less what may be shared."""
    steps = {buffer.first for buffer in buffers} | {buffer.last for buffer in buffers}
    bound = 0
    for step in steps:
        live = [buffer for buffer in buffers if buffer.first <= step <= buffer.last]
        saved = [o.over.bytes + o.under.bytes - o.together() for o in overlaps if o.over in live and o.under in live]
        bound = max(bound, sum(buffer.bytes for buffer in live) - sum(max(saving, 0) for saving in saved))
    return bound


def place(buffers: Sequence[Buffer], overlaps: Sequence[Overlap] = ()) -> int:
    """Set every offset; returns the bytes of the arena. An overlap counts only where no later step reads what lies under."""
    where = {id(buffer): index for index, buffer in enumerate(buffers)}
    pairs = [(where[id(o.over)], where[id(o.under)], o.distance, o.exact) for o in overlaps if o.under.last == o.over.first]
    peak, offsets = solved(tuple((b.bytes, b.first, b.last, b.align) for b in buffers), tuple(pairs))
    for buffer, offset in zip(buffers, offsets, strict=True):
        buffer.offset = offset
    return peak


@lru_cache(maxsize=64)  # one compilation asks the same several times over: for each trial of a fusion, with and without the stack
def solved(lives: Sequence[tuple[int, int, int, int]], pairs: Sequence[tuple[int, int, int, bool]]) -> tuple[int, Sequence[int]]:
    """The bytes of the arena and the offsets of buffers, whose bytes, steps and alignments are `lives`."""
    if not lives:
        return 0, ()
    buffers = [Buffer("", *life) for life in lives]
    peak = Planner(buffers, [Overlap(buffers[over], buffers[under], distance, exact) for over, under, distance, exact in pairs]).solve()
    return peak, tuple(buffer.offset for buffer in buffers)


class Planner:
    def __init__(self, buffers: Sequence[Buffer], overlaps: Sequence[Overlap]) -> None:
        self.buffers = list(buffers)
        self.pairs: dict[tuple[int, int], list[Overlap]] = {}
        for overlap in overlaps:
            self.pairs.setdefault(self.key(overlap.over, overlap.under), []).append(overlap)
        self.rivals = {id(a): [b for b in self.buffers if b is not a and a.meets(b)] for a in self.buffers}
        self.bound = max(live_bound(buffers, overlaps), max(buffer.bytes for buffer in buffers))

    @staticmethod
    def key(a: Buffer, b: Buffer) -> tuple[int, int]:
        return (id(a), id(b)) if id(a) < id(b) else (id(b), id(a))

    def fits(self, a: Buffer, b: Buffer) -> bool:
        return apart(a, b) or any(overlap.allows() for overlap in self.pairs.get(self.key(a, b), ()))

    def candidates(self, buffer: Buffer, placed: Sequence[Buffer]) -> list[int]:
        """The offsets where a lowest placement can be: the bottom, right above a rival, or as far over one as it may."""
        found = {0}
        for rival in placed:
            found.add(rival.offset + rival.bytes)
            for overlap in self.pairs.get(self.key(buffer, rival), ()):
                shift = -overlap.distance if overlap.over is buffer else overlap.distance
                found |= {rival.offset + shift, rival.offset + shift // buffer.align * buffer.align}
                found.add(rival.offset + rival.bytes - buffer.bytes)
        return sorted({-(-offset // buffer.align) * buffer.align for offset in found if offset >= 0} | {o for o in found if o >= 0})

    def place_in(self, order: Sequence[Buffer]) -> int:
        done: set[int] = set()
        peak = 0
        for buffer in order:
            placed = [rival for rival in self.rivals[id(buffer)] if id(rival) in done]
            for offset in self.candidates(buffer, placed):
                if offset % buffer.align:
                    continue
                buffer.offset = offset
                if all(self.fits(buffer, rival) for rival in placed):
                    break
            done.add(id(buffer))
            peak = max(peak, buffer.offset + buffer.bytes)
        return peak

    def solve(self) -> int:
        orders = [
            sorted(self.buffers, key=lambda b: (-b.bytes, b.first)),
            sorted(self.buffers, key=lambda b: (-b.bytes * (1 + b.last - b.first), b.first)),
            sorted(self.buffers, key=lambda b: (b.first, -b.bytes)),
            sorted(self.buffers, key=lambda b: (-b.last, -b.bytes)),
        ]
        best = min(orders, key=self.place_in)
        peak = self.place_in(best)
        choose = random.Random(0)
        patience = left = min(PATIENCE, EFFORT // len(self.buffers))
        while peak > self.bound and left and len(best) > 1:
            left -= 1
            order = list(best)
            moved = order.pop(choose.randrange(len(order)))
            order.insert(choose.randrange(len(order) + 1), moved)
            if (new := self.place_in(order)) <= peak:
                left = patience if new < peak else left
                best, peak = order, new
        peak = self.place_in(best)
        assert all(self.fits(a, b) for a in self.buffers for b in self.rivals[id(a)]), "two live buffers overlap"
        return peak
