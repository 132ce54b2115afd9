"""Schedule every tensor program of a module, each at the default point of the first rule that takes it.

in:  IRModule, Relax main that calls unscheduled TensorIR programs
out: the same, each program scheduled; attributes `stack.rule` and `stack.decision` (JSON) say how, `stack.flops` and `stack.bytes` how much
"""

import json
from collections.abc import Callable, Sequence

import tvm
from tvm import tirx

from schedules.machine import Machine
from schedules.rule import Rule, first_space
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
        if on_progress:
            on_progress(done, len(programs))
    return scheduled
