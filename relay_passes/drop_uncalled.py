"""Programs that nobody calls leave the module, so that none is scheduled and compiled for nothing.

    main: y = conv(x) into t, z = pool(x) into t      and programs conv, pool, concat     ->     and programs conv, pool

Copies that `plan_memory` found needless leave their programs behind.
"""

import tvm
import tvm_ffi
from tvm import relax, tirx


@tvm.ir.transform.module_pass(opt_level=0, name="drop_uncalled")
def drop_uncalled(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    called: set[str] = set()
    for function in module.functions.values():
        if isinstance(function, relax.Function):
            tvm_ffi.structural_walk(function, (tvm.ir.GlobalVar, lambda name: called.add(name.name_hint)))
    functions = module.functions.items()
    kept = {name: function for name, function in functions if not isinstance(function, tirx.PrimFunc) or name.name_hint in called}
    return module if len(kept) == len(functions) else tvm.IRModule(kept, attrs=module.attrs)
