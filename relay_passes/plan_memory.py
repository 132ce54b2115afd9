"""Give every intermediate tensor a fixed place in one arena, known when compiling.

    a = alloc_tensor([64])           arena = alloc_storage(256 bytes)
    f(x, a)                          a = alloc_tensor(arena, offset 0, [64])
    b = alloc_tensor([64])      ->   f(x, a)
    g(a, b)                          b = alloc_tensor(arena, offset 256, [64])
    c = alloc_tensor([64])           g(a, b)
    h(b, c)                          c = alloc_tensor([64])       (returned, so the caller's)
    return c                         ...

Tensors that live at the same time never overlap, but for those that are joined, which lie in the result from the beginning. One after the
other gets the lowest offset that is free for its whole life (the greedy planners of Pisarchyk & Lee 2020, arXiv:2001.03288), in several
orders, of which the smallest arena wins: planning takes a millisecond.
Runs last, after `CallTIRRewrite` and `CanonicalizeBindings`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tvm
from tvm import relax

from relay_passes.join_in_place import ALIGN, Part, join_in_place

ALLOC, RESHAPE = "relax.builtin.alloc_tensor", "relax.reshape"


@dataclass
class Tensor:
    """One intermediate: its allocation, its size in bytes, and the first and last binding that touch it."""

    var: relax.Var
    size: int
    first: int
    last: int
    offset: int = 0


def is_op(value: relax.Expr, name: str) -> bool:
    return isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.Op) and value.op.name == name


def nbytes(var: relax.Var) -> int:
    size = 1
    for extent in var.ty.shape:
        size *= int(extent)
    return size * ((tvm.DataType(var.ty.dtype.dtype).bits + 7) // 8)


ORDERS: list[Callable[[Tensor], tuple[int, ...]]] = [
    lambda t: (-t.size, t.first),
    lambda t: (-t.size * (1 + t.last - t.first), t.first),
    lambda t: (t.first - t.last, -t.size, t.first),
    lambda t: (t.first, -t.size),
    lambda t: (-t.last, -t.size),
]  # largest first, by size times life, longest life first, as they are made, and the same from the end


def place(tensors: list[Tensor]) -> int:
    """Set each tensor's offset, in the order that needs least; returns the bytes of the arena."""
    best = min(ORDERS, key=lambda order: place_in(sorted(tensors, key=order)))
    return place_in(sorted(tensors, key=best))


def place_in(ordered: list[Tensor]) -> int:
    """Each tensor in turn at the lowest offset that is free for its whole life."""
    done: list[Tensor] = []
    for tensor in ordered:
        rivals = [other for other in done if other.first <= tensor.last and tensor.first <= other.last]
        offset = 0
        for other in sorted(rivals, key=lambda t: t.offset):
            if offset + tensor.size <= other.offset:
                break
            offset = max(offset, -(-(other.offset + other.size) // ALIGN) * ALIGN)
        tensor.offset = offset
        done.append(tensor)
    return max((t.offset + t.size for t in ordered), default=0)


def intermediates(function: relax.Function, bindings: list[relax.Binding]) -> tuple[list[Tensor], dict[relax.Var, relax.Var]]:
    """Allocated tensors that are not returned, with their lives; and whose memory each view is."""
    tensors: dict[relax.Var, Tensor] = {}
    root: dict[relax.Var, relax.Var] = {}
    tuples: dict[relax.Var, list[relax.Var]] = {}
    for index, binding in enumerate(bindings):
        if is_op(binding.value, ALLOC):
            tensors[binding.var] = Tensor(binding.var, nbytes(binding.var), index, index)
            continue
        used = [root.get(var, var) for var in relax.analysis.free_vars(binding.value)]
        for var in used:
            if var in tensors:
                tensors[var].last = index
        if is_op(binding.value, RESHAPE) and used:
            root[binding.var] = used[0]
        if isinstance(binding.value, relax.Tuple):
            tuples[binding.var] = used
    result = relax.analysis.free_vars(function.body.body)
    returned = {root.get(var, var) for name in result for var in tuples.get(name, [name])}
    return [tensor for var, tensor in tensors.items() if var not in returned], root


def merged(tensors: list[Tensor], parts: Mapping[relax.Var, Part]) -> list[Tensor]:
    """One for each memory: those that are no parts of others, alive as long as any of theirs."""
    wholes = {tensor.var: tensor for tensor in tensors if tensor.var not in parts}
    for tensor in tensors:
        whole = wholes[outermost(tensor.var, parts)[0]]
        whole.first, whole.last = min(whole.first, tensor.first), max(whole.last, tensor.last)
    return list(wholes.values())


def outermost(var: relax.Var, parts: Mapping[relax.Var, Part]) -> tuple[relax.Var, int]:
    """The tensor that is no part of another, and where in it `var` lies."""
    offset = 0
    while var in parts:
        var, offset = parts[var].whole, offset + parts[var].offset
    return var, offset


@relax.transform.function_pass(opt_level=0, name="plan_memory")
def plan_memory(function: relax.Function, module: tvm.IRModule, _context: tvm.transform.PassContext) -> relax.Function:
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    if any(is_op(binding.value, "relax.memory.alloc_storage") for binding in bindings):
        return function
    tensors, root = intermediates(function, bindings)
    if not tensors:
        return function
    parts, dropped = join_in_place(module, bindings, {tensor.var: tensor.size for tensor in tensors}, root)
    wholes = merged(tensors, parts)
    size = place(wholes)
    storage = relax.op.memory.alloc_storage(relax.ShapeExpr([size]), 0, "global", "uint8")
    arena = relax.Var("arena", relax.ObjectType())
    new: list[relax.Binding] = [relax.VarBinding(arena, storage)]
    placed_at = {tensor.var: tensor.offset for tensor in wholes}
    offsets = {}
    for tensor in tensors:
        whole, inside = outermost(tensor.var, parts)
        offsets[tensor.var] = placed_at[whole] + inside
    for index, binding in enumerate(bindings):
        if index in dropped:
            continue
        if binding.var in offsets:
            shape, dtype = binding.value.args[:2]
            placed = relax.op.memory.alloc_tensor(arena, offsets[binding.var], shape, dtype)
            binding = relax.VarBinding(binding.var, placed)
        new.append(binding)
    body = relax.SeqExpr([relax.BindingBlock(new)], function.body.body)
    return relax.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)
