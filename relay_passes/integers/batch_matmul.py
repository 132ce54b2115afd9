"""Products of two quantised activations, and of those whose constant operand does not fit a dense layer.

y = requantize(sum of (a - a_zero) * (b - b_zero)) + y_zero
"""

from tvm import relax, te, tirx

from relay_passes.integers import convolution
from relay_passes.integers.fixed_point import clamp, one_multiplier
from relay_passes.integers.intrinsics import requantize
from relay_passes.integers.island import Island
from relay_passes.integers.programs import placeholder
from relay_passes.rewrite import shape


def matmul(island: Island) -> relax.Expr | None:
    dense = convolution.dense(island)
    return product(island) if dense is None else dense


def product(island: Island) -> relax.Expr | None:
    left, right = island.inputs
    if not island.uniform or {left.dtype, right.dtype, island.output.dtype} != {"int8"} or island.bias is not None:
        return None
    a, b = placeholder(left.value, "a"), placeholder(right.value, "b")
    if min(len(a.shape), len(b.shape)) < 2:
        return None
    factor = one_multiplier(left.one_scale * right.one_scale / island.output.one_scale)
    k = te.reduce_axis((0, shape(left.value)[-1]), "k")

    def at(tensor: te.Tensor, batch: tuple[tirx.Var, ...], row: tirx.Expr, column: tirx.Expr) -> tirx.Expr:
        last = batch[len(batch) - (len(tensor.shape) - 2) :]
        place = [0 if int(extent) == 1 else index for extent, index in zip(tensor.shape, last, strict=False)]
        return tensor[(*place, row, column)].astype("int32")

    def total(*index: tirx.Var) -> tirx.Expr:
        batch, row, column = index[:-2], index[-2], index[-1]
        return te.sum((at(a, batch, row, k) - left.one_zero) * (at(b, batch, k, column) - right.one_zero), axis=k)

    def result(*index: tirx.Var) -> tirx.Expr:
        value = requantize(acc[index], *factor) + island.output.one_zero
        return clamp(value, island.low, island.high).astype("int8")

    acc = te.compute(island.shape, total, name="acc")
    tensors = [a, b, te.compute(island.shape, result, name="batch_matmul")]
    return island.programs.call("batch_matmul", tensors, [left.value, right.value])


LOWERINGS = {"relax.matmul": matmul}
