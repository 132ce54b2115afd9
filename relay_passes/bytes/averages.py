"""Averages of bytes over windows, in the arithmetic of ONNX Runtime's QLinearAveragePool, to the last bit.

    y = round(sum(float32(x - zero) * scale) / count / unit + zero')         count: without the border, or with it

Each product is rounded before it is added, the sum runs along rows, and the zero point of the result is added before rounding. A pool has
the scale of what it reads as a rule, so that many averages lie between two bytes.
"""

from math import prod

import numpy as np
from tvm import relax, te, tirx

from relay_passes.bytes import dot
from relay_passes.bytes.dot import Window
from relay_passes.bytes.layers import activation
from relay_passes.integers.island import Operand, Quantization
from relay_passes.integers.programs import OUT_EWISE_FUSABLE, Programs, placeholder
from relay_passes.rewrite import Graph, array, constant, op_name, shape

POOL = "relax.nn.avg_pool2d"
Array = np.ndarray


def known(expr: relax.Expr, graph: Graph) -> Array | None:
    """A constant, perhaps reshaped."""
    call = graph.source(expr)
    found = array(call.args[0]) if op_name(call) == "relax.reshape" else array(expr)
    return None if found is None else found.reshape(shape(expr))


def counted(core: relax.Call, graph: Graph) -> tuple[relax.Call, Array] | None:
    """The pool, and how many elements each window counts, [h, w]; it was multiplied by the share of them where the border is none."""
    pool, scale = core, np.ones((1, 1, 1, 1), np.float32)
    if op_name(core) == "relax.multiply":
        factor = known(core.args[1], graph)
        if factor is None or factor.ndim != 4 or factor.shape[0] != 1 or factor.shape[3] != 1:
            return None
        pool, scale = graph.source(core.args[0]), factor
    if op_name(pool) != POOL or (str(pool.attrs.layout), str(pool.attrs.out_layout)) != ("NHWC", "NHWC"):
        return None
    if any(map(int, pool.attrs.padding)) and not pool.attrs.count_include_pad:
        return None
    area = prod(int(extent) for extent in pool.attrs.pool_size)
    counts = np.rint(area / scale[0, :, :, 0])
    if not np.allclose(counts * scale[0, :, :, 0], area, rtol=1e-5):  # a factor of another meaning
        return None
    return pool, np.broadcast_to(counts, shape(core)[1:3]).astype("float32")


def windows_average(core: relax.Call, output: Quantization, half: int, graph: Graph, programs: Programs) -> relax.Expr | None:
    """float32: the average in units of the result, its zero point less `half` added; None where `core` is something else."""
    found = counted(core, graph)
    x = activation(found[0].args[0], graph) if found is not None else None
    if found is None or x is None:
        return None
    pool, counts = found
    window = Window(
        strides=(int(pool.attrs.strides[0]), int(pool.attrs.strides[1])),
        dilation=(int(pool.attrs.dilation[0]), int(pool.attrs.dilation[1])),
        pad=tuple(int(amount) for amount in pool.attrs.padding),  # type: ignore[arg-type]  # four of them
    )
    kernel = int(pool.attrs.pool_size[0]), int(pool.attrs.pool_size[1])
    height, width = (window.extent(size, extent, axis) for axis, (size, extent) in enumerate(zip(shape(x.value)[1:3], kernel, strict=True)))
    if shape(pool)[1:3] != (height, width):  # one that rounds its extent up counts otherwise
        return None
    return average(x, window, kernel, counts, output, half, programs)


def average(
    x: Operand, window: Window, kernel: tuple[int, int], counts: Array, output: Quantization, half: int, programs: Programs
) -> relax.Expr:
    zero, scale = x.one_zero, np.float32(x.one_scale)
    data = placeholder(x.value, "x")
    n, _, _, channels = (int(extent) for extent in data.shape)
    values = {"scale": scale, "lowest": np.float32(-zero) * scale, "unit": np.float32(output.one_scale)}
    scalars = {name: te.placeholder((), "float32", name=name) for name in values}
    count = te.placeholder(counts.shape, "float32", name="count")
    image = dot.bordered(data, window.pad, channels, zero)
    r, s = te.reduce_axis((0, kernel[0]), "r"), te.reduce_axis((0, kernel[1]), "s")

    def element(b: tirx.Var, h: tirx.Var, w: tirx.Var, c: tirx.Var) -> tirx.Expr:
        row, column = h * window.strides[0] + r * window.dilation[0], w * window.strides[1] + s * window.dilation[1]
        product = (image[b, row, column, c].astype("int32") - zero).astype("float32") * scalars["scale"]()
        # No product is below the lowest. Without the comparison code generation would add it in one operation, and round once.
        return te.sum(te.max(product, scalars["lowest"]()), axis=[r, s])

    total = te.compute((n, *counts.shape, channels), element, name="window_sum")
    moved = tirx.const(float(output.one_zero - half), "float32")
    result = te.compute(total.shape, lambda b, h, w, c: total[b, h, w, c] / count[h, w] / scalars["unit"]() + moved, name="average")
    arguments = [x.value, *(constant(np.asarray(value)) for value in values.values()), constant(np.ascontiguousarray(counts))]
    return programs.call("average", [data, *scalars.values(), count, result], arguments, pattern=OUT_EWISE_FUSABLE)
