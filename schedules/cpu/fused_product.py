"""What a program computes that is a product and an elementwise tail, taken apart so that a rule can write the loops anew.

y[m, n] += x[m, k] * w[k, n]                 left(m, k)        =  x[m, k]
out[m, n] = relu(y[m, n] + b[n])     ->      store(m, n, sum)  =  (out[m, n] = relu(sum + b[n]))
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.access import blocks_of, is_reduction, trivial
from schedules.cpu.raw_loops import number, replace_loads, substitute


@dataclass(frozen=True)
class FusedProduct:
    """`left` is an element of the left operand by row and depth; `store` writes a result by row, column and its sum.

    `right` is the right operand, a parameter that nothing else reads. `functions` names the elementary functions of the tail, and
    `tail` counts its operations.
    """

    rows: int
    columns: int
    depth: int
    right: tirx.Buffer
    left: Callable[[tirx.Expr, tirx.Expr], tirx.Expr]
    store: Callable[[tirx.Expr, tirx.Expr, tirx.Expr], tirx.Stmt]
    functions: frozenset[str]
    tail: int


def loads(node: tirx.Expr) -> list[tvm.ir.TensorLoad]:
    found: list[tvm.ir.TensorLoad] = []
    tvm_ffi.structural_walk(node, (tvm.ir.TensorLoad, found.append))
    return found


def operations(node: tirx.Expr) -> tuple[frozenset[str], int]:
    """The functions that an expression calls, and how many operators it has."""
    names: list[str] = []
    count = [0]

    def operator(_node: tirx.Expr) -> None:
        count[0] += 1

    kinds = (tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Max, tirx.Min, tirx.Select)
    tvm_ffi.structural_walk(
        node, [(tvm.ir.Call, lambda call: names.append(getattr(call.op, "name", ""))), *((kind, operator) for kind in kinds)]
    )
    return frozenset(names), count[0]


def read_fused_product(program: tirx.PrimFunc, name: str) -> FusedProduct | None:
    """The product in the block called `name`, whose right operand is a parameter; None where something else is around it."""
    sch = Schedule(program)
    blocks = blocks_of(sch)
    product = next((block for block in blocks if str(sch.get(block).name_hint) == name), None)
    if product is None or not all(trivial(sch, block) for block in blocks) or len(sch.get_output_blocks("root")) != 1:
        return None
    if [block for block in blocks if is_reduction(sch, block)] != [product] and sum(is_reduction(sch, block) for block in blocks) != 1:
        return None
    (last,) = sch.get_output_blocks("root")
    for block in blocks:
        if str(sch.get(block).name_hint) != name and sch.get_consumers(block):
            sch.compute_inline(block)
    return take_apart(sch, product, last, program.params)


def take_apart(sch: Schedule, product: SBlockRV, last: SBlockRV, params: Sequence[tirx.Buffer]) -> FusedProduct | None:
    node = sch.get(product)
    sums = node.writes[0].source
    *lead, n, k = node.iter_vars
    axis = next((i for i, at in enumerate(lead) if int(at.dom.extent) != 1), len(lead) - 1)
    left, right = node.body.value.b.a, node.body.value.b.b
    if not isinstance(right, tvm.ir.TensorLoad) or not any(right.source.same_as(param) for param in params):
        return None

    def at_row(row: tirx.Expr) -> list[tirx.Expr]:
        return [row if i == axis else number(0) for i in range(len(lead))]

    def element(row: tirx.Expr, depth: tirx.Expr) -> tirx.Expr:
        values = dict(zip((at.var for at in lead), at_row(row), strict=True))
        return substitute(left, {**values, k.var: depth})

    tail = sch.get(last)
    plain = is_reduction(sch, last)
    if not plain:
        axes = [at.var for at in tail.iter_vars]
        shape = [int(extent) for extent in sums.shape]
        if [int(at.dom.extent) for at in tail.iter_vars] != shape:
            return None
        if any(load.source.same_as(right.source) for load in loads(tail.body.value)):
            return None
        for load in loads(tail.body.value):
            if load.source.same_as(sums) and not all(
                index.same_as(var) or (extent == 1 and isinstance(index, tirx.IntImm))
                for index, var, extent in zip(load.indices, axes, shape, strict=True)
            ):
                return None

    def store(row: tirx.Expr, column: tirx.Expr, value: tirx.Expr) -> tirx.Stmt:
        if plain:
            return tirx.BufferStore(sums, value, [*at_row(row), column])
        values = dict(zip(axes, [*at_row(row), column], strict=True))
        indices = [substitute(index, values) for index in tail.body.indices]
        return tirx.BufferStore(tail.body.buffer, replace_loads(substitute(tail.body.value, values), sums, value), indices)

    functions, count = (frozenset[str](), 0) if plain else operations(tail.body.value)
    rows = int(lead[axis].dom.extent)
    return FusedProduct(rows, int(n.dom.extent), int(k.dom.extent), right.source, element, store, functions, count)
