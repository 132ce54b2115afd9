"""Products of two activations of bytes, as in attention: the right factor is packed, and made signed, ahead of the sums.

    pack_columns[b, p, k / 4, c, k % 4] = y[b, k, p * 16 + c] - 128
    batch_matmul_dot[b, m, p, c]       += int32(x[b, m, k]) * int32(pack_columns[b, p, k / 4, c, k % 4])
    z[b, m, n] = float32(batch_matmul_dot[b, m, n / 16, n % 16] - y_zero' * rows[b, m] - x_zero * columns[b, n] + offset) * scale

`rows` and `columns` are the sums along k, and are made only where the other factor has a zero point. A transpose of either factor is read
through, where x keeps its innermost axis.
"""

from collections.abc import Callable, Sequence

import numpy as np
from tvm import relax, te, tirx

from relay_passes.bytes.dot import CHANNELS, FILTERS, up_to
from relay_passes.bytes.layers import activation
from relay_passes.fold_transposes import inverse, order
from relay_passes.integers.island import Operand
from relay_passes.integers.programs import OUT_EWISE_FUSABLE, Programs, placeholder
from relay_passes.rewrite import Graph, constant, op_name, shape

HALF = 128
Element = Callable[[Sequence[tirx.Expr]], tirx.Expr]


class Factor:
    """One factor: its elements by their place in the product, read through the transpose that made it."""

    def __init__(self, x: Operand, name: str, graph: Graph, keep_last: bool) -> None:
        self.shape = shape(x.value)
        source, axes = graph.source(x.value), list(range(len(self.shape)))
        self.value = x.value
        if op_name(source) == "relax.permute_dims" and (not keep_last or order(source)[-1] == axes[-1]):
            self.value, axes = source.args[0], order(source)
        self.back = inverse(axes)
        self.tensor = placeholder(self.value, name)

    def __getitem__(self, index: Sequence[tirx.Expr]) -> tirx.Expr:
        return self.tensor[tuple(index[axis] for axis in self.back)]

    def sums(self, axis: int, name: str, programs: Programs) -> relax.Expr:
        """int32, along one axis."""
        k = te.reduce_axis((0, self.shape[axis]), "k")
        rest = self.shape[:axis] + self.shape[axis + 1 :]

        def element(*index: tirx.Var) -> tirx.Expr:
            return te.sum(self[(*index[:axis], k, *index[axis:])].astype("int32"), axis=k)

        return programs.call(name, [self.tensor, te.compute(rest, element, name=name)], [self.value])


def product(call: relax.Expr, graph: Graph, programs: Programs, divisor: float = 1.0) -> relax.Expr | None:
    """float32: the product over `divisor`; None where `call` is no product of two activations of bytes."""
    if op_name(call) != "relax.matmul":
        return None
    a, b = activation(call.args[0], graph), activation(call.args[1], graph)
    if a is None or b is None:
        return None
    (*batch, rows, depth), (*others, _, columns) = shape(a.value), shape(b.value)
    if len(batch) < 1 or batch != others or depth % CHANNELS:
        return None
    x, y = Factor(a, "x", graph, keep_last=True), Factor(b, "y", graph, keep_last=False)
    panels = pack_columns(y, batch, depth, columns)
    k, ci = te.reduce_axis((0, depth // CHANNELS), "k"), te.reduce_axis((0, CHANNELS), "ci")

    def dot(*index: tirx.Var) -> tirx.Expr:
        *at, m, p, c = index
        left = x[(*at, m, k * CHANNELS + ci)].astype("int32")
        return te.sum(left * panels[(*at, p, k, c, ci)].astype("int32"), axis=[k, ci])

    acc = te.compute((*batch, rows, up_to(columns, FILTERS) // FILTERS, FILTERS), dot, name="batch_matmul_dot")
    a_zero, b_zero = a.one_zero, b.one_zero - HALF
    tensors, arguments = [x.tensor, y.tensor], [x.value, y.value]

    def scalar(value: float | np.floating, kind: str, name: str) -> te.Tensor:
        tensors.append(te.placeholder((), kind, name=name))
        arguments.append(constant(np.asarray(value, kind)))
        return tensors[-1]

    corrections: list[Element] = []
    if b_zero:
        total = added(tensors, arguments, x.sums(len(batch) + 1, "row_sums", programs), (*batch, rows))
        factor = scalar(-b_zero, "int32", "u")
        corrections.append(lambda index: total[tuple(index[:-1])] * factor())
    if a_zero:
        sums = added(tensors, arguments, y.sums(len(batch), "column_sums", programs), (*batch, columns))
        other = scalar(-a_zero, "int32", "v")
        offset = scalar(a_zero * depth * (b_zero + HALF), "int32", "offset")
        corrections.append(lambda index: sums[(*index[:-2], index[-1])] * other() + offset())
    scale = scalar(np.float32(a.one_scale) * np.float32(b.one_scale) / np.float32(divisor), "float32", "scale")

    def element(*index: tirx.Var) -> tirx.Expr:
        value = acc[(*index[:-1], index[-1] // FILTERS, index[-1] % FILTERS)]
        for correction in corrections:
            value = value + correction(index)
        return value.astype("float32") * scale()

    result = te.compute((*batch, rows, columns), element, name="rescale")
    return programs.call("batch_matmul", [*tensors, result], arguments, pattern=OUT_EWISE_FUSABLE)


def added(tensors: list[te.Tensor], arguments: list[relax.Expr], value: relax.Expr, extents: Sequence[int]) -> te.Tensor:
    tensors.append(te.placeholder(tuple(extents), "int32", name=f"sums{len(tensors)}"))
    arguments.append(value)
    return tensors[-1]


def pack_columns(y: Factor, batch: Sequence[int], depth: int, columns: int) -> te.Tensor:
    count = up_to(columns, FILTERS) // FILTERS

    def element(*index: tirx.Var) -> tirx.Expr:
        *at, p, k, c, ci = index
        value = (y[(*at, k * CHANNELS + ci, p * FILTERS + c)] ^ tirx.const(HALF, "uint8")).astype("int8")
        return te.if_then_else(p * FILTERS + c < columns, value, tirx.const(0, "int8")) if columns % FILTERS else value

    return te.compute((*batch, count, depth // CHANNELS, FILTERS, CHANNELS), element, name="pack_columns")
