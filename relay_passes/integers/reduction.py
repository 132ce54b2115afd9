"""Sums and means along axes.

y = requantize(sum of x - count * x_zero) + y_zero,     for a mean with the factor divided by count
"""

from math import prod

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers.fixed_point import clamp, one_multiplier
from relay_passes.integers.intrinsics import requantize
from relay_passes.integers.island import Island
from relay_passes.integers.programs import placeholder
from relay_passes.rewrite import op_name, shape


def mean_factor(ratio: float, count: int) -> tuple[int, int]:
    """Multiplier and shift of ratio / count, as TFLite derives them: the multiplier of the ratio is divided in integers."""
    multiplier, shift = one_multiplier(ratio)
    bits = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << bits) // count, shift - bits


def reduce(island: Island) -> relax.Expr | None:
    (x,) = island.inputs
    if not island.uniform or not {x.dtype, island.output.dtype} <= {"int8", "int16"}:
        return None
    data = placeholder(x.value, "x")
    extents, rank = shape(x.value), len(shape(x.value))
    axes = sorted(int(axis) % rank for axis in island.call.attrs.axis) if island.call.attrs.axis is not None else list(range(rank))
    count = prod(extents[axis] for axis in axes)
    ratio = float(np.float64(x.one_scale) / np.float64(island.output.one_scale))
    name = op_name(island.call).removeprefix("relax.")
    factor = mean_factor(ratio, count) if name == "mean" else one_multiplier(ratio)
    reduced = [te.reduce_axis((0, extents[axis]), f"k{axis}") for axis in axes]
    keepdims = bool(island.call.attrs.keepdims)

    def total(*index: tirx.Var) -> tirx.Expr:
        kept = iter(index if not keepdims else [at for axis, at in enumerate(index) if axis not in axes])
        along = iter(reduced)
        place = [next(along) if axis in axes else next(kept) for axis in range(rank)]
        return te.sum(data[tuple(place)].astype("int32"), axis=reduced)

    def result(*index: tirx.Var) -> tirx.Expr:
        scaled = requantize(acc[index] - x.one_zero * count, *factor) + island.output.one_zero
        return clamp(scaled, island.low, island.high).astype(island.output.dtype)

    acc = te.compute(island.shape, total, name="acc")
    return island.programs.call(name, [data, te.compute(island.shape, result, name=name)], [x.value])


LOWERINGS = {"relax.mean": reduce, "relax.sum": reduce}
