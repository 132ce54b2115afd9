"""One index for each element, row by row, in the form that people write.

    x[n, h, w, c] of 1 x 8 x 8 x 16     ->     x[(h * 8 + w) * 16 + c]
    x[i // 4, i % 4] of 8 x 4           ->     x[i]

TVM's `FlattenBuffer` does this as well, multiplied out and sometimes wrongly: see `shield_division`.
"""

import math
from collections.abc import Sequence

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Range, TensorLoad
from tvm.sym import Analyzer


class Addresses:
    """Buffers of one dimension for those of a program."""

    def __init__(self, analyzer: Analyzer) -> None:
        self.analyzer = analyzer
        self.flat: dict[tirx.Expr, tirx.Expr] = {}

    def buffer(self, buffer: tirx.Expr) -> tirx.Expr:
        if buffer not in self.flat:
            size = math.prod(int(extent) for extent in buffer.shape)
            self.flat[buffer] = tirx.decl_buffer((size,), str(buffer.dtype), buffer.name)
        return self.flat[buffer]

    def address(self, buffer: tirx.Expr, indices: Sequence[tirx.Expr]) -> tirx.Expr:
        found: tirx.Expr | None = None
        for index, extent in zip(indices, buffer.shape, strict=True):
            if int(extent) != 1:
                index = index if str(index.ty) in ("int32", "int64") else index.astype("int32")
                found = index if found is None else plus(times(found.astype(str(index.ty)), int(extent)), index)
        if found is None:
            return tirx.const(0, "int32")
        digits: list[object] = []
        tvm_ffi.structural_walk(found, ((tirx.FloorDiv, tirx.FloorMod), digits.append))
        return self.analyzer.simplify(found) if digits else found  # fused loops: i // 4 * 4 + i % 4 is i again

    def load(self, node: TensorLoad) -> TensorLoad:
        return tirx.BufferLoad(self.buffer(node.source), [self.address(node.source, node.indices)])

    def store(self, node: tirx.BufferStore) -> tirx.BufferStore:
        return tirx.BufferStore(self.buffer(node.buffer), node.value, [self.address(node.buffer, node.indices)])

    def allocate(self, node: tirx.AllocBuffer) -> tirx.AllocBuffer:
        return tirx.AllocBuffer(self.buffer(node.buffer))


def times(factor: tirx.Expr, extent: int) -> tirx.Expr:
    """The product of an index and the extent of a dimension; two such factors become one."""
    if isinstance(factor, tirx.Mul) and isinstance(factor.b, tirx.IntImm):
        return times(factor.a, int(factor.b) * extent)
    return factor * tirx.const(extent, str(factor.ty))


def plus(total: tirx.Expr, term: tirx.Expr) -> tirx.Expr:
    """The sum of two indices, as a chain without parentheses: total + (a - b) is total + a - b."""
    if isinstance(term, tirx.Add):
        return plus(plus(total, term.a), term.b)
    if isinstance(term, tirx.Sub):
        return plus(total, term.a) - term.b
    return total + term


@tirx.transform.prim_func_pass(opt_level=0, name="flatten_addresses")
def flatten_addresses(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    analyzer = Analyzer()
    tvm_ffi.structural_walk(
        function.body, (tirx.For, lambda loop: analyzer.bind(loop.loop_var, Range.from_min_extent(loop.min, loop.extent)))
    )
    made = Addresses(analyzer)
    rules = [(TensorLoad, made.load), (tirx.BufferStore, made.store), (tirx.AllocBuffer, made.allocate)]
    body = tvm_ffi.structural_map(function.body, rules)
    return tirx.PrimFunc([made.buffer(param) for param in function.params], body, function.ret_type, function.attrs)
