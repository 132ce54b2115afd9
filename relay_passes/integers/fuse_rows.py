"""A depthwise convolution and the 1x1 convolution that alone reads it, as one program.

    a = depthwise(x, constants)
    y = conv2d(a, constants)           ->   y = depthwise_pointwise(x, constants of both)

Works on main in the form of `CallTIRRewrite`. Which pairs to fuse is for the caller to say: it saves the memory of `a` and costs a copy of
the rows of x.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import tvm
from tvm import relax, te, tirx
from tvm.ir import GlobalVar
from tvm.relax.expr import _update_type  # the one way to give a GlobalVar a type from Python

from relay_passes.integers.convolution import body, rescaled
from schedules.integer import Conv2D, Depthwise, FusedRows, describe, read


@dataclass(frozen=True)
class Pair:
    """`first` and `second` are positions among the calls of programs in main."""

    first: int
    second: int
    op: FusedRows


def calls(main: relax.Function) -> list[relax.Call]:
    """The calls of programs, in order."""
    values = [binding.value for block in main.body.blocks for binding in block.bindings]
    return [value for value in values if isinstance(value, relax.Call) and isinstance(value.op, GlobalVar)]


def pairs(module: tvm.IRModule) -> list[Pair]:
    """What can be fused."""
    found, every = [], calls(module["main"])
    elsewhere = used_elsewhere(module["main"])
    uses = [argument for call in every for argument in list(call.args)[:-1]]
    for first, call in enumerate(every):
        depthwise, between = read(module[call.op]), call.args[-1]
        readers = [index for index, other in enumerate(every) if between in list(other.args)[:-1]]
        if not isinstance(depthwise, Depthwise) or len(readers) != 1 or between in elsewhere or uses.count(between) != 1:
            continue
        pointwise = read(module[every[readers[0]].op])
        same = list(between.ty.shape) == list(every[readers[0]].args[0].ty.shape)
        if depthwise.batch == 1 and isinstance(pointwise, Conv2D) and is_pointwise(pointwise) and same:
            found.append(Pair(first, readers[0], FusedRows(depthwise, pointwise)))
    return found


def used_elsewhere(main: relax.Function) -> set[relax.Var]:
    """The variables that something else than a call of a program reads: those that are returned, or looked at in another shape."""
    found = set(relax.analysis.free_vars(main.body.body))
    for block in main.body.blocks:
        for binding in block.bindings:
            if not (isinstance(binding.value, relax.Call) and isinstance(binding.value.op, GlobalVar)):
                found |= set(relax.analysis.free_vars(binding.value))
    return found


def is_pointwise(op: Conv2D) -> bool:
    return (op.kernel_h, op.kernel_w, op.strides, any(op.pad)) == (1, 1, (1, 1), False)


def fuse(module: tvm.IRModule, pair: Pair) -> tvm.IRModule:
    """`module` with one pair as one call."""
    main, every = module["main"], calls(module["main"])
    first, second = every[pair.first], every[pair.second]
    name = GlobalVar(unused("depthwise_pointwise", module))
    _update_type(name, second.op.ty)
    fused = tvm.IRModule(dict(module.functions), attrs=module.attrs)
    fused[name] = program(pair.op).with_attr("global_symbol", name.name_hint)
    between = first.args[-1]
    blocks = []
    for block in main.body.blocks:
        bindings = []
        for binding in block.bindings:
            if binding.value.same_as(first) or binding.var.same_as(between):
                continue
            if binding.value.same_as(second):
                arguments = [*list(first.args)[:-1], *list(second.args)[1:]]
                binding = relax.VarBinding(binding.var, relax.Call(name, arguments, second.attrs, second.ty_args))
            bindings.append(binding)
        blocks.append(relax.BindingBlock(bindings))
    body_ = relax.SeqExpr(blocks, main.body.body)
    fused["main"] = relax.Function(main.params, body_, main.ret_ty, main.is_pure, main.attrs)
    still = {call.op.name_hint for call in calls(fused["main"])}
    return tvm.IRModule({v: f for v, f in fused.functions.items() if v.name_hint in still | {"main"}}, attrs=module.attrs)


def unused(stem: str, module: tvm.IRModule) -> str:
    taken = {var.name_hint for var in module.functions}
    return next(name for name in (stem, *(f"{stem}_{index}" for index in range(1, len(taken) + 2))) if name not in taken)


def program(op: FusedRows) -> tirx.PrimFunc:
    first, second = op.depthwise, op.pointwise
    x = te.placeholder((1, first.height, first.width, first.channels), "int8", name="x")
    taps = te.placeholder((1, first.kernel_h, first.kernel_w, first.filters), "int8", name="taps")
    weights = te.placeholder((second.filters, 1, 1, second.channels), "int8", name="w")
    before, after = scales(first, "first"), scales(second, "second")
    between = rescaled(body(x, taps, first, "int32"), before, first, "depthwise")
    y = rescaled(body(between, weights, second, "int32"), after, second, "pointwise")
    made = te.create_prim_func([x, taps, *before, weights, *after, y], index_dtype_override="int64")
    return describe(made, op)


def scales(op: Conv2D | Depthwise, prefix: str) -> Sequence[te.Tensor]:
    return [te.placeholder((op.filters,), "int32", name=f"{prefix}_{item}") for item in ("bias", "multiplier", "shift")]
