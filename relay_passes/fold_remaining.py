"""Let TVM compute the calls on constants that `fold_constants` has no entry for, where there is one.

    y = tril(const)                         ->   y = const
    y = relu(x), no call on constants       ->   the same, without a look by TVM

`relax.transform.FoldConstant` legalises each operator of the network to see whether it can be folded: more than a second for DenseNet,
where nothing can.
"""

from collections.abc import Iterator

import tvm
from tvm import relax

from relay_passes.rewrite import op_name

SHAPES = {"relax.shape_to_tensor", "relax.tensor_to_shape"}


def values(function: relax.Function) -> Iterator[relax.Expr]:
    for block in function.body.blocks:
        for binding in block.bindings:
            yield binding.value


def known(argument: relax.Expr) -> bool:
    """Whether nothing in an argument has to be computed."""
    return all(known(field) for field in argument.fields) if isinstance(argument, relax.Tuple) else not isinstance(argument, relax.Var)


def may_fold(value: relax.Expr) -> bool:
    """Whether `FoldConstant` could do something about `value`: all its operands are known, or it deals in shapes."""
    if not isinstance(value, relax.Call):
        return isinstance(value, relax.If | relax.Function)
    shapes = op_name(value) in SHAPES or any(
        isinstance(argument.ty, relax.ShapeType) and isinstance(argument, relax.Var) for argument in value.args
    )
    return shapes or all(known(argument) for argument in value.args)


@tvm.transform.module_pass(opt_level=0, name="fold_remaining")
def fold_remaining(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    functions = [function for function in module.functions.values() if isinstance(function, relax.Function)]
    needed = any(may_fold(value) for function in functions for value in values(function))
    return relax.transform.FoldConstant()(module) if needed else module
