"""A matrix product with constant weights becomes a program of its own kind, whose rule packs the weights when compiling.

    matmul(x, W), W: [384, 1000] constant     ->     packed_matmul(x, W):   y[m, n] = sum over k of x[m, k] * W[k, n]

Products of two activations are left to TVM's legalisation where whole vectors and good tiles divide them; where not, as with the 197
tokens of a vision transformer, the right operand is packed into panels when the model runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import tvm
from tvm import relax, te
from tvm.ir import GenericConst
from tvm.relax.transform.legalize_ops.linear_algebra import _matmul as plain_matmul

from relay_passes.rewrite import shape
from schedules.machine import Machine

BLOCK, HINT = "packed_matmul", "packed_matmul"
BATCH_BLOCK, PACK = "packed_batch_matmul", "pack_columns"
OUT_EWISE_FUSABLE = 4  # TVM's operator pattern: whatever is elementwise may be fused behind it


@dataclass(frozen=True)
class Panels:
    """How `rows` x `columns` results are cut: register tiles of `tile_rows` x (`vectors` registers)."""

    tile_rows: int
    vectors: int


def panels(rows: int, columns: int, machine: Machine) -> Panels:
    """The register tile: accumulators, a row of weights and one broadcast must fit the registers, and little may be wasted on padding.

    A multiply-add needs a load, and there are as many load as multiply-add ports, so the more results a loaded value meets the better.
    """
    lanes, registers = machine.lanes(), machine.vector_registers
    needed = -(-columns // lanes)

    def cost(vectors: int, tile_rows: int) -> float:
        wasted_columns = -(-needed // vectors) * vectors / needed
        wasted_rows = -(-rows // tile_rows) * tile_rows / rows
        loads = 1 / tile_rows + 1 / vectors
        chains = max(1.0, 4 * machine.fma_ports / (tile_rows * vectors))  # a multiply-add takes four cycles
        return wasted_columns * wasted_rows * chains * (1 + 0.25 * loads)

    tiles = [
        (vectors, tile_rows)
        for vectors in range(1, min(8, needed) + 1)
        for tile_rows in range(1, min(14, rows) + 1)
        if tile_rows * vectors + vectors + 1 <= registers and (vectors <= 4 or rows <= 2)
    ]
    vectors, tile_rows = min(tiles, key=lambda tile: (cost(*tile), -tile[0] * tile[1]))
    return Panels(tile_rows, vectors)


def constant_matmul(x: te.Tensor, w: te.Tensor) -> te.Tensor:
    """x [..., K], of which at most one leading axis has more than one element, times w [K, N]."""
    *lead, depth = (int(extent) for extent in x.shape)
    k = te.reduce_axis((0, depth), "k")
    return te.compute((*lead, int(w.shape[1])), lambda *at: te.sum(x[(*at[:-1], k)] * w[k, at[-1]], axis=k), name=BLOCK)


def packed_batch_matmul(x: te.Tensor, y: te.Tensor, width: int, tile_rows: int) -> te.Tensor:
    """x [batch..., M, K] times y [batch..., K, N], the columns of y packed into panels of `width` first."""
    *batch, rows, depth = (int(extent) for extent in x.shape)
    columns = int(y.shape[-1])
    count, padded = -(-columns // width), -(-rows // tile_rows) * tile_rows

    def pack_columns(*index: tvm.tirx.Expr) -> tvm.tirx.Expr:
        *at, p, k, c = index
        return te.if_then_else(p * width + c < columns, y[(*at, k, p * width + c)], tvm.tirx.const(0, y.dtype))

    panels = te.compute((*batch, count, depth, width), pack_columns, name=PACK)
    k = te.reduce_axis((0, depth), "k")

    def product(*index: tvm.tirx.Expr) -> tvm.tirx.Expr:
        *at, m, p, c = index
        row = tvm.te.min(m, rows - 1) if padded > rows else m
        return te.sum(x[(*at, row, k)] * panels[(*at, p, k, c)], axis=k)

    result = te.compute((*batch, padded, count, width), product, name=BATCH_BLOCK)
    return te.compute((*batch, rows, columns), lambda *index: result[(*index[:-1], index[-1] // width, index[-1] % width)], name="unpack")


def divides_badly(call: relax.Call, machine: Machine) -> bool:
    """Whether both factors are float32 activations of the same batch, and no vector divides the columns or no good tile the rows."""
    shapes = [[int(extent) for extent in argument.ty.shape] for argument in call.args]
    if any(str(argument.ty.dtype.dtype) != "float32" for argument in call.args):
        return False
    if min(map(len, shapes)) < 3 or shapes[0][:-2] != shapes[1][:-2]:
        return False
    rows, columns = shapes[0][-2], shapes[1][-1]
    best = max(tile for tile in range(1, min(rows, 14) + 1) if rows % tile == 0)
    return columns >= machine.lanes() // 2 and (columns % machine.lanes() != 0 or (rows > 4 and best < 4))


def lower_matmul(machine: Machine) -> Callable[[relax.BlockBuilder, relax.Call], relax.Expr]:
    """A legalisation of `relax.matmul` for this machine."""

    def lower(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        x, weights = call.args
        if divides_badly(call, machine):
            plan = panels(int(x.ty.shape[-2]), int(weights.ty.shape[-1]), machine)
            width = plan.vectors * machine.lanes()
            return builder.call_te(packed_batch_matmul, x, weights, width, plan.tile_rows, primfunc_name_hint="batch_matmul")
        dense = isinstance(weights, GenericConst) and len(weights.ty.shape) == 2 and len(x.ty.shape) >= 2
        if not dense or str(x.ty.dtype.dtype) != "float32" or isinstance(x, GenericConst):
            return plain_matmul(builder, call)
        depth, columns = shape(weights)
        lead = [int(extent) for extent in x.ty.shape][:-1]
        rows = prod(lead)
        flat = sum(extent != 1 for extent in lead) > 1
        if flat:
            x = builder.emit(relax.op.reshape(x, (rows, depth)))
        data = te.placeholder(tuple(int(extent) for extent in x.ty.shape), "float32", name="x")
        matrix = te.placeholder((depth, columns), "float32", name="w")
        out = constant_matmul(data, matrix)
        program = te.create_prim_func([data, matrix, out], index_dtype_override="int64").without_attr("global_symbol")
        variable = builder.add_func(program.with_attr("op_pattern", OUT_EWISE_FUSABLE), HINT)  # one for all products of these shapes
        result = relax.call_tir(variable, [x, weights], relax.TensorType(tuple(int(extent) for extent in out.shape), "float32"))
        return relax.op.reshape(builder.emit(result), (*lead, columns)) if flat else result

    return lower
