"""How much scratch memory a point may ask for: no more than its layer's own images take, or 1 KB, or the default point.

A layer's images are in the arena while it runs, so that within this no point makes the arena twice as large. It rules out most orders of
loops with filters outside: the windows of all pixels have to be kept then, nine times the image for a 3x3 convolution.
"""

from collections.abc import Callable

from schedules.integer import Convolution
from schedules.space import Point

LEAST = 1024


def images(op: Convolution) -> int:
    """Bytes of what a layer reads and writes."""
    return op.batch * (op.height * op.width * op.channels + op.out_height * op.out_width * op.filters)


def within(op: Convolution, scratch: Callable[[Point], int], default: Point) -> Callable[[Point], bool]:
    """`Space.legal` for points that take `scratch` bytes."""
    most = max(images(op), LEAST, scratch(default))
    return lambda point: scratch(point) <= most
