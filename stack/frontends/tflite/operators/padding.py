"""Borders around tensors: of zeros, of a value, or mirrored. They work on integers as they are stored."""

import numpy as np
from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused

SYMMETRIC = 1


def widths(c: Conversion, index: int = 1) -> list[tuple[int, int]]:
    """How much is added before and behind each dimension."""
    value, extents = c.value(index), c.shape(0)
    if value.shape != (len(extents), 2) or (value < 0).any() or (value > 1 << 24).any():
        raise Refused(f"it pads by {value.tolist()}, which does not fit its input of shape {list(extents)}")
    return [(int(before), int(after)) for before, after in value]


def pad(c: Conversion) -> relax.Expr:
    """With zeros, which the integers of a quantised tensor have at the zero point, or with a value of the same scale."""
    affine = c.affine(0)
    fill = c.value(2).reshape(-1)[0] if c.has(2) else 0 if affine is None else affine.zero_point[0]
    return relax.op.nn.pad(c.stored(0), [width for pair in widths(c) for width in pair], "constant", float(fill))


def mirror_pad(c: Conversion) -> relax.Expr:
    """SYMMETRIC repeats the edge itself, REFLECT begins beside it."""
    data = c.stored(0)
    inner = 0 if c.option("mode") == SYMMETRIC else 1
    for axis, ((before, after), extent) in enumerate(zip(widths(c), c.shape(0), strict=True)):
        if max(before, after) > extent - inner:
            raise Refused(f"it mirrors {max(before, after)} elements of a dimension of {extent}")
        if before or after:
            positions = np.pad(np.arange(extent), (before, after), "reflect" if inner else "symmetric")
            data = c.emit(relax.op.take(data, c.const(positions, "int64"), axis))
    return data


STORED: dict[str, Converter] = {"MIRROR_PAD": mirror_pad, "PAD": pad, "PADV2": pad}
