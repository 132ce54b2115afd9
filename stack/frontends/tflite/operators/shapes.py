"""The same elements in another shape or order, and tensors that follow from shapes alone. All work on integers as they are stored.

SHAPE becomes a constant, so that what exporters compute from it (slices, products, packs) is folded while it is imported.
"""

import numpy as np
from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused


def reshape(c: Conversion) -> relax.Expr:
    """The shape is the second input, else an option, else that of the result in the file; -1 stands for what is left."""
    target = c.target(1) if c.has(1) else list(c.option("new_shape")) or list(c.outputs[0].shape)
    size = int(np.prod(c.shape(0)))
    known = int(np.prod([extent for extent in target if extent != -1]))
    if target.count(-1) == 1 and known and not size % known:
        target[target.index(-1)] = size // known
    if int(np.prod(target)) != size or min(target, default=0) < 0:
        raise Refused(f"an input of shape {list(c.shape(0))} cannot have the shape {target}")
    return relax.op.reshape(c.stored(0), target)


def squeeze(c: Conversion) -> relax.Expr:
    extents = c.shape(0)
    given = {c.axis(axis, len(extents)) for axis in c.option("squeeze_dims")}
    axes = given or {axis for axis, extent in enumerate(extents) if extent == 1}
    if any(extents[axis] != 1 for axis in axes):
        raise Refused(f"it drops dimensions {sorted(axes)} of {list(extents)}, which are not all 1")
    return relax.op.reshape(c.stored(0), [extent for axis, extent in enumerate(extents) if axis not in axes])


def expand_dims(c: Conversion) -> relax.Expr:
    (axis,) = c.numbers(1)
    extents = list(c.shape(0))
    extents.insert(c.axis(axis, len(extents) + 1), 1)
    return relax.op.reshape(c.stored(0), extents)


def transpose(c: Conversion) -> relax.Expr:
    order = [c.axis(axis, len(c.shape(0))) for axis in c.numbers(1)]
    if sorted(order) != list(range(len(c.shape(0)))):
        raise Refused(f"{order} is no order of its {len(c.shape(0))} dimensions")
    return relax.op.permute_dims(c.stored(0), order)


def reverse(c: Conversion) -> relax.Expr:
    data = c.stored(0)
    for axis in c.numbers(1):
        positions = np.arange(c.shape(0)[c.axis(axis, len(c.shape(0)))])[::-1]
        data = c.emit(relax.op.take(data, c.const(positions, "int64"), c.axis(axis, len(c.shape(0)))))
    return data


def extents_of(c: Conversion) -> relax.Expr:
    return c.const(c.shape(0), c.outputs[0].dtype)


def checked_extents(c: Conversion, index: int) -> list[int]:
    """A shape that the file holds: not absurd, for a constant of it may be made."""
    extents = c.target(index)
    if any(extent < 0 for extent in extents) or int(np.prod(extents, dtype=object)) > 1 << 30:
        raise Refused(f"{extents} is no shape")
    return extents


def fill(c: Conversion) -> relax.Expr:
    return relax.op.broadcast_to(c.stored(1), checked_extents(c, 0))


def zeros_like(c: Conversion) -> relax.Expr:
    return relax.op.broadcast_to(c.const(0, c.tensor(0).dtype), c.shape(0))


def broadcast_args(c: Conversion) -> relax.Expr:
    return c.const(np.broadcast_shapes(tuple(checked_extents(c, 0)), tuple(checked_extents(c, 1))), c.outputs[0].dtype)


def tile(c: Conversion) -> relax.Expr:
    repeats = c.numbers(1)
    if len(repeats) != len(c.shape(0)) or min(repeats, default=1) < 1 or int(np.prod(repeats, dtype=object)) > 1 << 24:
        raise Refused(f"repeats of {repeats} do not fit its input of shape {list(c.shape(0))}")
    return relax.op.tile(c.stored(0), repeats)


STORED: dict[str, Converter] = {
    "BROADCAST_ARGS": broadcast_args,
    "BROADCAST_TO": lambda c: relax.op.broadcast_to(c.stored(0), checked_extents(c, 1)),
    "EXPAND_DIMS": expand_dims,
    "FILL": fill,
    "RANK": lambda c: c.const(len(c.shape(0)), "int32"),
    "RESHAPE": reshape,
    "REVERSE_V2": reverse,
    "SHAPE": extents_of,
    "SQUEEZE": squeeze,
    "TILE": tile,
    "TRANSPOSE": transpose,
    "ZEROS_LIKE": zeros_like,
}
