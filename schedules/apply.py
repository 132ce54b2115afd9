"""Schedule every tensor program of a module, each at a point of the space that the first rule that takes it offers.

Which point is for `decide` to say. Where constants of a call cannot be packed for that point, it is the space's other one.

in:  IRModule, Relax main that calls unscheduled TensorIR programs
out: the same, each program scheduled; attributes `stack.rule` and `stack.decision` (JSON) say how, `stack.flops` and `stack.bytes` how
     much. Where a space packs constants, main passes them packed.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import GenericConst

from schedules.machine import Machine
from schedules.rule import Rule, first_space
from schedules.space import Array, CannotPack, Point, Space
from schedules.work import count_work

Decide = Callable[[tirx.PrimFunc, Space], Point]


def default_point(_program: tirx.PrimFunc, space: Space) -> Point:
    """What decides where nobody else does."""
    return space.default


def schedule(
    module: tvm.IRModule,
    rules: Sequence[Rule],
    machine: Machine,
    on_progress: Callable[[int, int], None] | None = None,
    decide: Decide = default_point,
) -> tvm.IRModule:
    """Schedule all programs of `module`, by default at their spaces' default points; `on_progress` gets (done, total) after each."""
    programs = [(name, function) for name, function in module.functions.items() if isinstance(function, tirx.PrimFunc)]
    scheduled = tvm.IRModule(dict(module.functions), attrs=module.attrs)
    constants = constants_of_calls(module["main"])
    packed: dict[str, list[list[Array]]] = {}
    in_place: set[str] = set()
    for done, (name, program) in enumerate(programs, 1):
        work = count_work(program)
        space = first_space(rules, program, machine)
        point = decide(program, space)
        if space.pack:
            point, packed[name.name_hint] = pack(space, point, constants.get(name.name_hint, []))
            in_place |= {name.name_hint} if space.in_place else set()
        function = space.apply(point).mod["main"]
        scheduled[name] = function.with_attrs(
            {
                "global_symbol": name.name_hint,
                "stack.rule": space.rule,
                "stack.decision": json.dumps(dict(point), sort_keys=True),
                "stack.flops": work.flops,
                "stack.bytes": work.bytes,
            }
        )
        if on_progress:
            on_progress(done, len(programs))
    if packed:
        scheduled["main"] = pack_constants(scheduled["main"], packed, in_place)
    return scheduled


def constants_of_calls(main: relax.Function) -> dict[str, list[list[Array]]]:
    """By program, the constant operands of each of its calls."""
    found: dict[str, list[list[Array]]] = {}
    for call in (binding.value for block in main.body.blocks for binding in block.bindings):
        if isinstance(call, relax.Call) and isinstance(call.op, tvm.ir.GlobalVar):
            arrays = [argument.value.numpy() for argument in call.args if isinstance(argument, GenericConst)]
            found.setdefault(call.op.name_hint, []).append(arrays)
    return found


def pack(space: Space, point: Point, calls: Sequence[Sequence[Array]]) -> tuple[Point, list[list[Array]]]:
    """`point`, or what takes its place for a program with these constants in its calls, and them as that wants them."""
    assert space.pack
    try:
        return point, [space.pack(point, constants) for constants in calls]
    except CannotPack:
        assert space.otherwise is not None, f"{space.rule} has no point for any constants"
        return space.otherwise, [space.pack(space.otherwise, constants) for constants in calls]


def pack_constants(main: relax.Function, packed: Mapping[str, list[list[Array]]], in_place: Collection[str] = ()) -> relax.Function:
    """`main` with the constants of each call packed, `packed` in the order of calls: f(x, w, b, out) -> f(x, packed, out).

    Programs `in_place` keep the order of their operands: f(w, x, out) -> f(packed, x, out).
    """
    ready = {name: iter(calls) for name, calls in packed.items()}
    blocks = []
    for block in main.body.blocks:
        bindings = []
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.GlobalVar) and value.op.name_hint in ready:
                binding = relax.VarBinding(binding.var, packed_call(value, next(ready[value.op.name_hint]), value.op.name_hint in in_place))
            bindings.append(binding)
        blocks.append(relax.BindingBlock(bindings))
    body = relax.SeqExpr(blocks, main.body.body)
    return relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs)


def packed_call(call: relax.Call, packed: Sequence[Array], in_place: bool = False) -> relax.Call:
    *read, out = call.args
    activations = [argument for argument in read if not isinstance(argument, GenericConst)]
    new = [relax.const(tvm.runtime.tensor(np.ascontiguousarray(array))) for array in packed]
    if in_place:
        ready = iter(new)
        arguments = [next(ready) if isinstance(argument, GenericConst) else argument for argument in read]
        return relax.Call(call.op, [*arguments, out], call.attrs, call.ty_args)
    return relax.Call(call.op, [*activations, *new, out], call.attrs, call.ty_args)
