"""Dense layers whose activations are quantised at run time.

    matmul(int32(x uint8) - zero, w int32)                  ->   call_tir(dense, (x, packed w, sums of w, zero))   int32
    float32(matmul(...)) * (scale of x * scale of w)        ->   call_tir(dense, (..., scale of w)) * scale of x   float32

The zero point of x is known at run time only, and multiplies the sums of each filter's weights. Weights that need a ninth bit, because they
had a zero point too, are moved into a byte; the sums of each row of x, times how far they were moved, make up for it.
"""

from math import prod

import numpy as np
from tvm import relax, te, tirx

from relay_passes.bytes import dot
from relay_passes.bytes.dot import FILTERS, Window
from relay_passes.integers.programs import OUT_EWISE_FUSABLE, Programs, placeholder
from relay_passes.rewrite import Graph, Rule, array, constant, dtype, is_tensor, op_name, rewrites, shape

Array = np.ndarray


def widened(expr: relax.Expr, graph: Graph) -> relax.Expr | None:
    """x of int32(x), of unsigned bytes."""
    call = graph.source(expr)
    return call.args[0] if op_name(call) == "relax.astype" and dtype(call.args[0]) == "uint8" else None


def less_zero(expr: relax.Expr, graph: Graph) -> tuple[relax.Expr, relax.Expr | None] | None:
    """x and zero of int32(x) - zero, or of int32(x)."""
    call = graph.source(expr)
    if op_name(call) == "relax.subtract" and prod(shape(call.args[1])) == 1:
        x = widened(call.args[0], graph)
        return (x, call.args[1]) if x is not None else None
    x = widened(expr, graph)
    return (x, None) if x is not None else None


def row_sums(x: relax.Expr, rows: int, depth: int, programs: Programs) -> relax.Expr:
    data = te.placeholder((1, 1, rows, depth), "uint8", name="x")
    k = te.reduce_axis((0, depth), "k")
    sums = te.compute((rows,), lambda m: te.sum(data[0, 0, m, k].astype("int32"), axis=k), name="row_sums")
    return programs.call("row_sums", [data, sums], [x])


def dense(call: relax.Call, scale: Array | None, graph: Graph, programs: Programs) -> relax.Expr | None:
    """The sums that `call` computes, int32; or these times `scale`, a number or one for each filter, float32."""
    weights = array(call.args[1])
    if op_name(call) != "relax.matmul" or dtype(call) != "int32" or not is_tensor(call) or weights is None or weights.ndim != 2:
        return None
    found = less_zero(call.args[0], graph)
    least, most = int(weights.min(initial=0)), int(weights.max(initial=0))
    if found is None or most - least > 255 or (scale is not None and scale.size not in (1, weights.shape[1])):
        return None
    moved = 0 if least >= -128 and most <= 127 else most - 127
    x, zero = found
    rows, depth, filters = prod(shape(x)[:-1]), shape(x)[-1], weights.shape[1]
    image = relax.op.reshape(x, (1, 1, rows, depth))
    packed = constant(dot.pack((weights - moved).T.astype("int8")[:, None, None, :]))
    data, w = te.placeholder((1, 1, rows, depth), "uint8", name="x"), placeholder(packed, "w")
    acc = dot.conv2d(data, w, Window(), 0)
    tensors, arguments = [data, w], [image, packed]

    def operand(value: relax.Expr, extents: tuple[int, ...], name: str, kind: str = "int32") -> te.Tensor:
        arguments.append(value)
        tensors.append(te.placeholder(extents, kind, name=name))
        return tensors[-1]

    totals = factor = sums = offset = vector = None
    if zero is not None:
        totals = operand(constant(weights.astype("int64").sum(axis=0).astype("int32")), (filters,), "totals")
        factor = operand(relax.op.reshape(zero, ()), (), "zero")
    if moved:
        sums = operand(row_sums(image, rows, depth, programs), (rows,), "sums")
        offset = operand(relax.const(moved, "int32"), (), "moved")
    if scale is not None:
        vector = operand(constant(np.broadcast_to(scale.reshape(-1), (filters,)).astype("float32")), (filters,), "scale", "float32")

    def element(n: tirx.Var, h: tirx.Var, m: tirx.Var, f: tirx.Var) -> tirx.Expr:
        value = acc[n, h, m, f // FILTERS, f % FILTERS]
        if totals is not None and factor is not None:
            value = value - totals[f] * factor()
        if sums is not None and offset is not None:
            value = value + sums[m] * offset()
        return value if vector is None else value.astype("float32") * vector[f]

    result = te.compute((1, 1, rows, filters), element, name="rescale")
    return relax.op.reshape(programs.call("dense", [*tensors, result], arguments, pattern=OUT_EWISE_FUSABLE), shape(call))


def dynamic_rule(programs: Programs) -> Rule:
    @rewrites("relax.matmul")
    def sums_of_bytes(call: relax.Call, graph: Graph) -> relax.Expr | None:
        return dense(call, None, graph, programs)

    return sums_of_bytes


def scaled_rule(programs: Programs) -> Rule:
    @rewrites("relax.multiply")
    def scaled_sums(call: relax.Call, graph: Graph) -> relax.Expr | None:
        """float32(sums) * (scale of x * scale of w), where only the first is not known yet: the second belongs to the layer."""
        sums, scales = (graph.source(argument) for argument in call.args)
        if op_name(sums) != "relax.astype" or op_name(scales) != "relax.multiply" or dtype(call) != "float32":
            return None
        known, own = array(scales.args[1]), scales.args[0]
        layer = graph.source(sums.args[0])
        if known is None or shape(own) != () or not isinstance(layer, relax.Call):
            return None
        value = dense(layer, known, graph, programs)
        return relax.op.multiply(value, own) if value is not None else None

    return scaled_sums
