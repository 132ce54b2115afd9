"""Schedule every tensor program of a module, each at the default point of the first rule that takes it.

in:  IRModule, Relax main that calls unscheduled TensorIR programs
out: the same, each program scheduled; attributes `stack.rule` and `stack.decision` (JSON) say how, `stack.flops` and `stack.bytes` how much.
     Where a space packs constants, main passes them packed.
"""

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import GenericConst

from schedules.machine import Machine
from schedules.rule import Rule, first_space
from schedules.space import Array, Space
from schedules.work import count_work


def schedule(
    module: tvm.IRModule,
    rules: Sequence[Rule],
    machine: Machine,
    on_progress: Callable[[int, int], None] | None = None,
) -> tvm.IRModule:
    """Schedule all programs of `module`; `on_progress` gets (done, total) after each."""
    programs = [(name, function) for name, function in module.functions.items() if isinstance(function, tirx.PrimFunc)]
    scheduled = tvm.IRModule(dict(module.functions), attrs=module.attrs)
    packers: dict[str, Space] = {}
    for done, (name, program) in enumerate(programs, 1):
        work = count_work(program)
        space = first_space(rules, program, machine)
        function = space.apply(space.default).mod["main"]
        scheduled[name] = function.with_attrs(
            {
                "global_symbol": name.name_hint,
                "stack.rule": space.rule,
                "stack.decision": json.dumps(dict(space.default), sort_keys=True),
                "stack.flops": work.flops,
                "stack.bytes": work.bytes,
            }
        )
        if space.pack:
            packers[name.name_hint] = space
        if on_progress:
            on_progress(done, len(programs))
    if packers:
        scheduled["main"] = pack_constants(scheduled["main"], packers)
    return scheduled


def pack_constants(main: relax.Function, packers: Mapping[str, Space]) -> relax.Function:
    """`main` with the constants of each call as the space of its program wants them: f(x, w, b, out) -> f(x, packed, out)."""
    blocks = []
    for block in main.body.blocks:
        bindings = []
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.GlobalVar) and value.op.name_hint in packers:
                binding = relax.VarBinding(binding.var, packed_call(value, packers[value.op.name_hint]))
            bindings.append(binding)
        blocks.append(relax.BindingBlock(bindings))
    body = relax.SeqExpr(blocks, main.body.body)
    return relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs)


def packed_call(call: relax.Call, space: Space) -> relax.Call:
    assert space.pack
    *read, out = call.args
    constants = [argument.value.numpy() for argument in read if isinstance(argument, GenericConst)]
    activations = [argument for argument in read if not isinstance(argument, GenericConst)]
    packed: list[Array] = space.pack(space.default, constants)
    new = [relax.const(tvm.runtime.tensor(np.ascontiguousarray(array))) for array in packed]
    return relax.Call(call.op, [*activations, *new, out], call.attrs, call.ty_args)
