"""Turn the tensor programs that an importer wrote out by hand back into operators, so that the other passes see what they mean.

    call_tir(maximum, (x, 0.0))          ->   maximum(x, 0.0)
    call_tir(pad, (x,))                  ->   pad(x, [0, 0, 1, 1], constant 0)

TVM's ONNX importer emits ONNX's Clip, Min, Max and Pad as TensorIR. A guess from the program is accepted only where TVM makes a
structurally equal program for the operator, so a name or a look-alike never misleads us.
"""

from collections.abc import Sequence

from tvm import relax, s_tir, te, tirx, topi
from tvm.ir import Op, TensorLoad
from tvm_ffi import structural_equal

from relay_passes.rewrite import Graph, dtype, is_tensor, rewrite_pass, rewrites, shape

BINARY = {
    tirx.Max: (topi.maximum, relax.op.maximum),
    tirx.Min: (topi.minimum, relax.op.minimum),
}


def store(program: tirx.PrimFunc) -> tirx.BufferStore | None:
    """The one store in a program's one loop nest; None for a program of another form."""
    statement = program.body
    while not isinstance(statement, tirx.BufferStore):
        if isinstance(statement, tirx.For):
            statement = statement.body
        elif isinstance(statement, s_tir.SBlockRealize):
            statement = statement.block.body
        else:
            return None
    return statement


def same(statement: tirx.BufferStore, inputs: Sequence[te.Tensor], output: te.Tensor) -> bool:
    """Whether TVM generates this store for `output`. Loops are left out of it: importers mix index types there."""
    return bool(structural_equal(statement, store(te.create_prim_func([*inputs, output])), map_free_vars=True))


def binary(statement: tirx.BufferStore, left: relax.Expr, right: relax.Expr) -> relax.Expr | None:
    if type(statement.value) not in BINARY:
        return None
    generate, operator = BINARY[type(statement.value)]
    inputs = [te.placeholder(list(argument.ty.shape), dtype(argument)) for argument in (left, right)]
    return operator(left, right) if same(statement, inputs, generate(*inputs)) else None


def constant_pad(statement: tirx.BufferStore, data: relax.Expr, out: tuple[int, ...]) -> relax.Expr | None:
    """A pad selects between its input and one value: `if_then_else(inside, x[i - before], value)`."""
    value = statement.value
    if not (isinstance(value, relax.Call) and isinstance(value.op, Op) and value.op.name == "prim.if_then_else"):
        return None
    _, inside, outside = value.args
    if not isinstance(inside, TensorLoad) or not isinstance(outside, tirx.FloatImm | tirx.IntImm):
        return None
    before = [int(index.b) if isinstance(index, tirx.Sub) and isinstance(index.b, tirx.IntImm) else 0 for index in inside.indices]
    after = [o - i - b for o, i, b in zip(out, shape(data), before, strict=True)]
    if min(before + after) < 0:
        return None
    source = te.placeholder(list(data.ty.shape), dtype(data))
    if not same(statement, [source], topi.nn.pad(source, before, after, outside.value)):
        return None
    widths = [width for pair in zip(before, after, strict=True) for width in pair]
    return relax.op.nn.pad(data, widths, "constant", float(outside.value))


@rewrites("relax.call_tir")
def lift(call: relax.Call, graph: Graph) -> relax.Expr | None:
    program, arguments = graph.module[call.args[0]], list(call.args[1].fields)
    if not is_tensor(call) or not all(is_tensor(argument) for argument in arguments):
        return None
    statement = store(program)
    if statement is None:
        return None
    if len(arguments) == 2:
        return binary(statement, *arguments)
    return constant_pad(statement, arguments[0], shape(call)) if len(arguments) == 1 else None


lift_programs = rewrite_pass("lift_programs", [lift])
