"""Give elementary functions of elementary functions a variable in between.

    y[i] = tanh(log(1 + exp(x[i])))     ->     m0[0] = exp(x[i])
                                               m1[0] = log(1 + m0[0])
                                               y[i] = tanh(m1[0])

`expand_vector_math` makes each of them a polynomial whose every name occurs several times. The code generator has an analyser write
names out as what they stand for, so each function around another multiplies the size of an expression by a hundred: three deep, it would
not finish. What is read from memory it leaves alone, and LLVM makes registers of that memory again. What is computed only under a
condition is stored only under that condition.
Runs between the two passes of `vector_math`.
"""

from dataclasses import dataclass, field

import tvm
import tvm_ffi
from tvm import tirx

from stack.emit.vector_math import calls_math, has_math, is_math


@dataclass
class Store:
    """One name: its buffer, the store that defines it, and what other names that one needs."""

    buffer: tirx.Expr
    store: tirx.Stmt
    needs: list[tirx.Expr]


@dataclass
class Names:
    """The functions of one statement that have got a name, in the order in which they are computed."""

    stores: list[Store] = field(default_factory=list)

    def name(self, call: tvm.ir.Call) -> tirx.Expr:
        buffer = tirx.decl_buffer((1,), str(call.ty), "m", scope="local")
        zero = tirx.const(0, "int32")
        self.stores.append(Store(buffer, tirx.BufferStore(buffer, call, [zero]), self.used(call)))
        return tirx.BufferLoad(buffer, [zero])

    def used(self, expr: tirx.Expr) -> list[tirx.Expr]:
        """Names that occur in `expr`, and what they need."""
        found: list[tirx.Expr] = []

        def load(node: tvm.ir.TensorLoad) -> None:
            for store in self.stores:
                if node.source.same_as(store.buffer):
                    found.extend([store.buffer, *store.needs])

        tvm_ffi.structural_walk(expr, (tvm.ir.TensorLoad, load))
        return found

    def inner(self, expr: tirx.Expr) -> tirx.Expr:
        """`expr` where every function has a name."""
        return tvm_ffi.structural_map(expr, (tvm.ir.Call, self.call))

    def call(self, call: tvm.ir.Call) -> tirx.Expr:
        if getattr(call.op, "name", "") == "prim.if_then_else":
            condition, then, otherwise = call.args
            self.guard(then, condition)
            self.guard(otherwise, tirx.Not(condition))
            return call
        return self.name(call) if is_math(call) else call

    def guard(self, branch: tirx.Expr, condition: tirx.Expr) -> None:
        used = self.used(branch)
        for store in self.stores:
            if any(store.buffer.same_as(buffer) for buffer in used):
                store.store = tirx.IfThenElse(condition, store.store, None)

    def before(self, statement: tirx.Stmt) -> tirx.Stmt:
        if not self.stores:
            return statement
        return tirx.SeqStmt(
            [*(tirx.AllocBuffer(store.buffer) for store in self.stores), *(store.store for store in self.stores), statement]
        )


def nested(expr: tirx.Expr) -> bool:
    """Whether an elementary function in `expr` is one of another."""
    found: list[bool] = []
    tvm_ffi.structural_walk(expr, (tvm.ir.Call, lambda call: found.append(is_math(call) and any(map(has_math, call.args[1:])))))
    return any(found)


def store(node: tirx.BufferStore) -> tirx.Stmt:
    if not nested(node.value):
        return node
    names = Names()
    return names.before(tirx.BufferStore(node.buffer, names.inner(node.value), node.indices))


def bind(node: tirx.Bind) -> tirx.Stmt:
    """The analyser writes this name out as well."""
    if not isinstance(node.value, tirx.Expr) or not has_math(node.value):
        return node
    names = Names()
    return names.before(tirx.Bind(node.var, names.inner(node.value)))


def flatten(node: tirx.SeqStmt) -> tirx.Stmt:
    """One list, so that names are seen by the statements behind them."""
    if not any(isinstance(statement, tirx.SeqStmt) for statement in node.seq):
        return node
    return tirx.SeqStmt(
        [inner for statement in node.seq for inner in (statement.seq if isinstance(statement, tirx.SeqStmt) else [statement])]
    )


@tirx.transform.prim_func_pass(opt_level=0, name="nested_math")
def nested_math(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    if not calls_math(function):
        return function
    return function.with_body(
        tvm_ffi.structural_map(function.body, [(tirx.BufferStore, store), (tirx.Bind, bind), (tirx.SeqStmt, flatten)])
    )
