"""Indices, conditions and the ends of loops as short as they can be; the values that a program computes stay as they are.

    if T.bool(True): y[0 * 4 + i] = (a[i] + b[i]) * 3     ->     y[i] = (a[i] + b[i]) * 3

TVM's `StmtSimplify` would multiply values out as well: (a + b) * 3 -> a * 3 + b * 3, twice the work.
"""

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Range, TensorLoad
from tvm.sym import Analyzer


class Simplifier:
    """Walks down one program; the analyzer knows the loops and conditions around."""

    def __init__(self) -> None:
        self.analyzer = Analyzer()

    def statement(self, node: tirx.Stmt) -> tirx.Stmt:
        if isinstance(node, tirx.SeqStmt):
            parts = [self.statement(part) for part in node.seq]
            parts = [inner for part in parts for inner in (part.seq if isinstance(part, tirx.SeqStmt) else [part]) if not empty(inner)]
            parts = allocate_late(parts)
            return parts[0] if len(parts) == 1 else tirx.SeqStmt(parts) if parts else NOTHING
        if isinstance(node, tirx.For):
            return self.loop(node)
        if isinstance(node, tirx.IfThenElse):
            return self.branch(node)
        if isinstance(node, tirx.BufferStore):
            return tirx.BufferStore(node.buffer, self.expression(node.value), [self.index(index) for index in node.indices])
        if isinstance(node, tirx.Bind):
            return tirx.Bind(node.var, self.expression(node.value))
        if isinstance(node, tirx.Evaluate):
            return tirx.Evaluate(self.expression(node.value))
        if isinstance(node, tirx.While):
            return tirx.While(self.expression(node.condition), self.statement(node.body))
        if isinstance(node, tirx.AttrStmt):
            return self.statement(node.body)  # hints for other code generators
        return node

    def loop(self, node: tirx.For) -> tirx.Stmt:
        first, extent = self.analyzer.simplify(node.min), self.analyzer.simplify(node.extent)
        if isinstance(extent, tirx.IntImm) and int(extent) == 1:
            body = tvm_ffi.structural_map(node.body, (tirx.Var, lambda var: first if var.same_as(node.loop_var) else var))
            return self.statement(body)
        self.analyzer.bind(node.loop_var, Range.from_min_extent(first, extent))
        body = self.statement(node.body)
        if empty(body) or (isinstance(extent, tirx.IntImm) and int(extent) <= 0):
            return NOTHING
        return tirx.For(node.loop_var, first, extent, node.kind, body, node.thread_binding, node.annotations)

    def branch(self, node: tirx.IfThenElse) -> tirx.Stmt:
        condition = self.index(node.condition)
        if isinstance(condition, tirx.IntImm):
            taken = node.then_case if int(condition) else node.else_case
            return NOTHING if taken is None else self.statement(taken)
        with self.analyzer.constraint_scope(condition):
            then = self.statement(node.then_case)
        if node.else_case is None:
            return NOTHING if empty(then) else tirx.IfThenElse(condition, then, None)
        with self.analyzer.constraint_scope(self.analyzer.simplify(tirx.Not(condition))):
            otherwise = self.statement(node.else_case)
        return tirx.IfThenElse(condition, then, None if empty(otherwise) else otherwise)

    def index(self, expr: tirx.Expr) -> tirx.Expr:
        """An index or a condition; what is loaded inside it is a value."""
        loads: list[TensorLoad] = []
        tvm_ffi.structural_walk(expr, (TensorLoad, loads.append))
        return self.expression(expr) if loads else self.analyzer.simplify(expr)

    def expression(self, expr: tirx.Expr) -> tirx.Expr:
        """A value: only the indices and conditions in it."""
        return tvm_ffi.structural_map(expr, [(TensorLoad, self.load), (tirx.Select, self.select), (tvm.ir.Call, self.call)])

    def load(self, node: TensorLoad) -> TensorLoad:
        return tirx.BufferLoad(node.source, [self.index(index) for index in node.indices])

    def select(self, node: tirx.Select) -> tirx.Expr:
        condition = self.index(node.condition)
        if isinstance(condition, tirx.IntImm):
            return node.true_value if int(condition) else node.false_value
        return tirx.Select(condition, node.true_value, node.false_value)

    def call(self, node: tvm.ir.Call) -> tirx.Expr:
        if getattr(node.op, "name", "") != "prim.if_then_else":
            return node
        condition, then, otherwise = node.args
        condition = self.index(condition)
        if isinstance(condition, tirx.IntImm):
            return then if int(condition) else otherwise
        return tirx.if_then_else(condition, then, otherwise)


NOTHING = tirx.Evaluate(tirx.const(0, "int32"))


def empty(node: tirx.Stmt) -> bool:
    return isinstance(node, tirx.Evaluate) and isinstance(node.value, tirx.IntImm)


@tirx.transform.prim_func_pass(opt_level=0, name="simplify_control")
def simplify_control(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    return function.with_body(Simplifier().statement(function.body))


def allocate_late(parts: list[tirx.Stmt]) -> list[tirx.Stmt]:
    """Every buffer just before the first statement that uses it."""
    for alloc in [part for part in reversed(parts) if isinstance(part, tirx.AllocBuffer)]:
        rest = [part for part in parts if not part.same_as(alloc)]
        place = next((i for i, part in enumerate(rest) if touches(part, alloc.buffer)), len(rest))
        parts = [*rest[:place], alloc, *rest[place:]]
    return parts


def touches(statement: tirx.Stmt, buffer: tirx.Expr) -> bool:
    found: list[object] = []
    tvm_ffi.structural_walk(
        statement,
        [
            (TensorLoad, lambda node: found.append(node) if node.source.same_as(buffer) else None),
            (tirx.BufferStore, lambda node: found.append(node) if node.buffer.same_as(buffer) else None),
        ],
    )
    return bool(found)
