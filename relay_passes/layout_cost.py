"""Whether a dense convolution computes in blocks of channels or in plain layout: which way by default, and whether that is a question.

    Layer(image=(1, 64, 128, 128), weight=(2, 64, 1, 1), result=(1, 2, 128, 128), ...).ways(room_in=64, room_out=16, lanes=16)
        ->   ("blocked", "plain"), the default first, or the only one that is worth a try

Costs are rough, in multiply-adds of one lane. Blocks waste lanes where channels do not fill them. The flat plane of a plain image computes
what lies between strides as well. Either way moves whatever its neighbours have in the other layout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

BLOCKED, PLAIN = "blocked", "plain"
MOVE = 25.0  # multiply-adds in the time that an element takes to change its layout
PLANE = 1.5  # the plane's time for a multiply-add, in that of a tile of blocks
WINOGRAD, DEEP = 1.7, 32  # what Winograd saves in blocks, about, and channels where it does
LARGEST_STRIDE, VECTOR = 2, 16  # that the flat plane is for, and what its positions are a multiple of
SURELY = 0.8  # of the usual way's cost: less makes another way the default
WORSE = 1.4  # of the cheaper way's cost: beyond it nobody asks


@dataclass(frozen=True)
class Layer:
    """A dense convolution between its neighbours: NCHW `image` and `result`, OIHW `weight`."""

    image: Sequence[int]
    weight: Sequence[int]
    result: Sequence[int]
    stride: tuple[int, int]
    comes_blocked: bool  # the image is in blocks
    to_be_blocked: bool  # it is not, and has too many channels to be read so
    leaves_blocked: bool  # what reads the result can do so in blocks

    @property
    def like(self) -> str:
        """What equal layers have in common."""
        stride = "" if self.stride == (1, 1) else f" by {self.stride[0]}x{self.stride[1]}"
        return f"{'x'.join(map(str, self.image))} to {'x'.join(map(str, self.weight))}{stride}"

    def ways(self, room_in: int, room_out: int, lanes: int) -> tuple[str, ...]:
        """`room_in` and `room_out` are channels and filters with those that only fill blocks of `lanes`."""
        usual, other = (BLOCKED, PLAIN) if self.weight[0] > lanes // 2 else (PLAIN, BLOCKED)
        if max(self.stride) > LARGEST_STRIDE:
            return (usual,)
        costs = {BLOCKED: self.blocked(room_in, room_out), PLAIN: self.plain()}
        first, second = (other, usual) if costs[other] < SURELY * costs[usual] else (usual, other)
        return (first, second) if costs[second] < WORSE * costs[first] else (first,)

    def blocked(self, room_in: int, room_out: int) -> float:
        taps = tuple(self.weight[2:])
        work = prod(taps) * room_in * room_out * prod(self.result) / self.result[1]
        if taps == (3, 3) and self.stride == (1, 1) and min(room_in, room_out) >= DEEP:
            work /= WINOGRAD
        return work + MOVE * (moved(self.image) * self.to_be_blocked + moved(self.result) * (not self.leaves_blocked))

    def plain(self) -> float:
        positions = prod(self.result[2:]) * prod(self.stride)
        work = prod(self.weight) * self.image[0] * VECTOR * -(-positions // VECTOR)
        return PLANE * work + MOVE * (moved(self.image) * self.comes_blocked + moved(self.result) * self.leaves_blocked)


def moved(image: Sequence[int]) -> int:
    """Elements that a change of the layout moves: an image of one pixel is only called another shape."""
    return prod(image) if prod(image[2:]) > 1 else 0
