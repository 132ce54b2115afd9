"""Programs written loop by loop, for rules whose loops no schedule primitive makes: edges of another size, sums kept between blocks.

in:  extents, and Python functions that give the body for a loop's variable
out: statements of TensorIR, and a program of them as a Schedule
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import PrimType
from tvm.s_tir import Schedule

Body = Callable[[tirx.Expr], tirx.Stmt]
SERIAL, PARALLEL = tirx.ForKind.SERIAL, tirx.ForKind.PARALLEL
UNROLLED, VECTOR = tirx.ForKind.UNROLLED, tirx.ForKind.VECTORIZED


def number(value: int) -> tirx.Expr:
    """An index."""
    return tirx.const(value, "int64")


def loop(name: str, count: int, body: Body, kind: int = SERIAL) -> tirx.Stmt:
    """`body` for each of `count` values; a loop of one iteration is none."""
    if count == 1:
        return body(number(0))
    return loop_to(name, number(count), body, kind)


def loop_to(name: str, count: tirx.Expr, body: Body, kind: int = SERIAL) -> tirx.Stmt:
    """`body` for each of as many values as `count` comes to."""
    variable = tirx.Var(name, PrimType("int64"))
    return tirx.For(variable, number(0), count, kind, body(variable))


def unrolled(name: str, count: int, body: Body) -> tirx.Stmt:
    return loop(name, count, body, UNROLLED)


def parallel(name: str, count: int, body: Body) -> tirx.Stmt:
    return loop_to(name, number(count), body, PARALLEL)


def vector(lanes: int, body: Body) -> tirx.Stmt:
    return loop_to("lane", number(lanes), body, VECTOR)


def where(conditions: Sequence[tirx.Expr], then: tirx.Stmt, otherwise: tirx.Stmt | None = None) -> tirx.Stmt:
    """`then` where all hold; what always holds is left out."""
    return tirx.IfThenElse(reduce(tirx.And, conditions), then, otherwise) if conditions else then


def sequence(*parts: tirx.Stmt | None) -> tirx.Stmt:
    """One after the other; None is nothing."""
    real = [part for part in parts if part is not None]
    return real[0] if len(real) == 1 else tirx.SeqStmt(real)


def named(values: Sequence[tirx.Expr], body: Callable[..., tirx.Stmt]) -> tirx.Stmt:
    """`body` of what stands for each of `values`: what many indices are made of is simplified once, and not once an index.

    It is memory, which LLVM makes a register of: what a variable is bound to, TVM's simplifier writes out again.
    """
    held = buffer("held", [len(values)], "int64")
    stores = [tirx.BufferStore(held, value, [number(at)]) for at, value in enumerate(values)]
    return holding([held], sequence(*stores, body(*(held[number(at)] for at in range(len(values))))))


def buffer(name: str, shape: Sequence[int], dtype: str = "float32", scope: str = "local") -> tirx.Buffer:
    """Memory of a kernel's own: in registers where all its indices become constants, else on the stack or in the workspace."""
    return tirx.decl_buffer([number(extent) for extent in shape], dtype, name=name, scope=scope)


def holding(buffers: Sequence[tirx.Buffer], body: tirx.Stmt) -> tirx.Stmt:
    """`body`, in which `buffers` exist. A block would not do: TVM moves its buffers into loops that are to keep what they hold."""
    return tirx.SeqStmt([*(tirx.AllocBuffer(each) for each in buffers), body]) if buffers else body


def prefetch(source: tirx.Buffer, indices: Sequence[tirx.Expr]) -> tirx.Stmt:
    """Fetch the cache line of an element into the second level. The address may lie behind the end of the buffer."""
    hint = [tirx.const(value, "int32") for value in (0, 2, 1)]  # to read, into the second level, data
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch.p0", tirx.address_of(source[tuple(indices)]), *hint))


def substitute(node: tirx.Expr, values: Mapping[tirx.Var, tirx.Expr]) -> tirx.Expr:
    return tvm_ffi.structural_map(node, (tirx.Var, lambda var: values.get(var, var)))


def replace_loads(node: tirx.Expr, source: tirx.Buffer, value: tirx.Expr) -> tirx.Expr:
    """`node` with `value` wherever it loads from `source`."""
    return tvm_ffi.structural_map(node, (tvm.ir.TensorLoad, lambda load: value if load.source.same_as(source) else load))


def as_schedule(program: tirx.PrimFunc, parameters: Sequence[tirx.Buffer], body: tirx.Stmt) -> Schedule:
    """A function of `parameters` with `body` in the place of `program`'s."""
    root = s_tir.SBlockRealize([], True, s_tir.SBlock([], [], [], "root", body))
    return Schedule(tirx.PrimFunc(list(parameters), root, attrs=program.attrs))
