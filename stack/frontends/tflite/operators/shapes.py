"""Operators that move elements without computing: they work on integers as they are stored."""

import numpy as np
from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused


def reshape(c: Conversion) -> relax.Expr:
    """The shape is the second input, else an option, else that of the result in the file; -1 stands for what is left."""
    target = c.numbers(1) if c.has(1) else list(c.option("new_shape")) or list(c.outputs[0].shape)
    size = int(np.prod(c.shape(0)))
    known = int(np.prod([extent for extent in target if extent != -1]))
    if target.count(-1) == 1 and known and not size % known:
        target[target.index(-1)] = size // known
    if int(np.prod(target)) != size or min(target, default=0) < 0:
        raise Refused(f"an input of shape {list(c.shape(0))} cannot have the shape {target}")
    return relax.op.reshape(c.stored(0), target)


def pad(c: Conversion) -> relax.Expr:
    """With zeros, which the integers of a quantised tensor have at the zero point, or with a value of the same scale."""
    widths = c.value(1)
    if widths.shape != (len(c.shape(0)), 2) or (widths < 0).any():
        raise Refused(f"it pads by {widths.tolist()}, which does not fit its input of shape {list(c.shape(0))}")
    affine = c.affine(0)
    fill = 0 if affine is None else int(affine.zero_point[0])
    if c.has(2):
        fill = c.value(2).reshape(-1)[0]
    return relax.op.nn.pad(c.stored(0), [int(width) for width in widths.reshape(-1)], "constant", float(fill))


STORED: dict[str, Converter] = {"PAD": pad, "PADV2": pad, "RESHAPE": reshape}
