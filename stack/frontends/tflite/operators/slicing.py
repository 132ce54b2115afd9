"""Parts of tensors and tensors of parts. All work on integers as they are stored.

SPLIT, SPLIT_V, UNPACK, SLICE, STRIDED_SLICE   ->   strided_slice, and a reshape where dimensions are dropped
CONCATENATION, PACK                            ->   concat, of reshaped tensors for PACK
"""

import numpy as np
from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused


def cut(c: Conversion, data: relax.Expr, cuts: dict[int, slice]) -> relax.Expr:
    """`data` with some of its axes sliced. A slice that runs backwards to the front ends before it, which only a number below -n says."""
    extents = [int(extent) for extent in data.ty.shape]
    bounds = {axis: part.indices(extents[axis]) for axis, part in cuts.items()}
    ends = [end if end >= 0 else -extents[axis] - 1 for axis, (_, end, _) in bounds.items()]
    begins, steps = [begin for begin, _, _ in bounds.values()], [step for _, _, step in bounds.values()]
    return c.emit(relax.op.strided_slice(data, list(bounds), begins, ends, steps)) if bounds else data


def strided_slice(c: Conversion) -> relax.Expr:
    """Bit i of a mask is for the i-th entry of begin, end and strides."""
    begin, end, strides = c.numbers(1), c.numbers(2), c.numbers(3)
    extents, rank = c.shape(0), len(c.shape(0))
    if 0 in strides or not len(begin) == len(end) == len(strides):
        raise Refused(f"its begin {begin}, end {end} and strides {strides} do not fit")

    def marked(mask: str, entry: int) -> bool:
        return bool(c.option(f"{mask}_mask") >> entry & 1)

    named = [entry for entry in range(len(begin)) if not marked("ellipsis", entry) and not marked("new_axis", entry)]
    if len(named) > rank:
        raise Refused(f"it slices {len(named)} dimensions where there are {rank}")
    axis, cuts, result = 0, {}, []
    for entry, (first, last, step) in enumerate(zip(begin, end, strides, strict=True)):
        if marked("ellipsis", entry):
            result += list(extents[axis : axis + rank - len(named)])
            axis += rank - len(named)
            continue
        if marked("new_axis", entry):
            result.append(1)
            continue
        if marked("shrink_axis", entry):
            position = c.axis(first, extents[axis])
            cuts[axis] = slice(position, position + 1)
        else:
            last = first + last if c.option("offset") else last
            cuts[axis] = slice(None if marked("begin", entry) else first, None if marked("end", entry) else last, step)
            result.append(len(range(*cuts[axis].indices(extents[axis]))))
        axis += 1
    return relax.op.reshape(cut(c, c.stored(0), cuts), [*result, *extents[axis:]])


def part(c: Conversion) -> relax.Expr:
    """SLICE: a size of -1 reaches to the end."""
    begins, sizes, extents = c.numbers(1), c.numbers(2), c.shape(0)
    if not len(begins) == len(sizes) == len(extents):
        raise Refused(f"its begin {begins} and size {sizes} do not fit its input of shape {list(extents)}")
    ends = [extent if size == -1 else begin + size for begin, size, extent in zip(begins, sizes, extents, strict=True)]
    if any(not 0 <= begin <= end <= extent for begin, end, extent in zip(begins, ends, extents, strict=True)):
        raise Refused(f"a part of size {sizes} at {begins} is not inside its input of shape {list(extents)}")
    return cut(c, c.stored(0), {axis: slice(begin, end) for axis, (begin, end) in enumerate(zip(begins, ends, strict=True))})


def parts(c: Conversion, index: int, axis: int, sizes: list[int]) -> list[relax.Expr]:
    if sum(sizes) != c.shape(index)[axis] or min(sizes, default=0) < 0 or len(sizes) != len(c.node.outputs):
        raise Refused(f"parts of {sizes} are no split of dimension {axis} of {list(c.shape(index))}")
    ends = np.cumsum(sizes)
    return [cut(c, c.stored(index), {axis: slice(int(end) - size, int(end))}) for size, end in zip(sizes, ends, strict=True)]


def split(c: Conversion) -> list[relax.Expr]:
    count = len(c.node.outputs)
    axis = c.axis(c.numbers(0)[0], len(c.shape(1)))
    return parts(c, 1, axis, [c.shape(1)[axis] // max(count, 1)] * count)


def split_v(c: Conversion) -> list[relax.Expr]:
    """One of the sizes may be -1, for what is left."""
    axis = c.axis(c.numbers(2)[0], len(c.shape(0)))
    sizes = c.numbers(1)
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = c.shape(0)[axis] - sum(sizes) - 1
    return parts(c, 0, axis, sizes)


def unpack(c: Conversion) -> list[relax.Expr]:
    extents = c.shape(0)
    axis = c.axis(c.option("axis"), len(extents))
    left = [*extents[:axis], *extents[axis + 1 :]]
    return [relax.op.reshape(item, left) for item in parts(c, 0, axis, [1] * extents[axis])]


def concatenation(c: Conversion) -> relax.Expr:
    out = c.outputs[0].affine
    for tensor in c.inputs:
        if tensor.affine is not None and out is not None and tensor.dtype in ("int8", "int16") and not tensor.affine.equals(out):
            raise Refused(f"its input {tensor.name!r} has another scale than its result, which TFLite does not define")
    axis = c.axis(c.option("axis"), len(c.shape(0)))
    return relax.op.concat([c.stored(index) for index in range(len(c.node.inputs))], axis)


def pack(c: Conversion) -> relax.Expr:
    extents = list(c.shape(0))
    axis = c.axis(c.option("axis"), len(extents) + 1)
    extents.insert(axis, 1)
    return relax.op.concat([c.emit(relax.op.reshape(c.stored(index), extents)) for index in range(len(c.node.inputs))], axis)


def gather(c: Conversion) -> relax.Expr:
    if c.option("batch_dims"):
        raise Refused("its batch dimensions are not compiled")
    return relax.op.take(c.stored(0), c.stored(1), c.axis(c.option("axis"), len(c.shape(0))))


STORED: dict[str, Converter] = {
    "CONCATENATION": concatenation,
    "EMBEDDING_LOOKUP": lambda c: relax.op.take(c.stored(1), c.stored(0), 0),
    "GATHER": gather,
    "GATHER_ND": lambda c: relax.op.gather_nd(c.stored(0), c.emit(relax.op.astype(c.stored(1), "int64"))),
    "PACK": pack,
    "SELECT": lambda c: relax.op.where(c.stored(0), c.stored(1), c.stored(2)),
    "SELECT_V2": lambda c: relax.op.where(c.stored(0), c.stored(1), c.stored(2)),
    "SLICE": part,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "STRIDED_SLICE": strided_slice,
    "UNPACK": unpack,
}
