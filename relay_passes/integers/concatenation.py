"""Tensors joined along an axis, each brought to the scale of the result before.

quantize(concat(dequantize(a), dequantize(b)))   ->   concat(requantize(a), b)        where b has the scale of the result already
"""

from dataclasses import replace

from tvm import relax

from relay_passes.integers.island import Island
from relay_passes.integers.requantize import rescale
from relay_passes.rewrite import shape


def concatenate(island: Island) -> relax.Expr | None:
    parts = [rescale(replace(island, inputs=[part], shape=shape(part.value))) for part in island.inputs]
    if any(part is None for part in parts):
        return None
    return relax.Call(island.call.op, [relax.Tuple(parts)], island.call.attrs)


LOWERINGS = {"relax.concat": concatenate}
