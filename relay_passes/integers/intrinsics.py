"""Fixed-point arithmetic as operators of TensorIR, so that programs stay short and C code reads as their definitions do.

T.stack_requantize(acc, multiplier, shift)   ->   C: the function of that name in schedules/mcu/intrinsics.py
                                             ->   LLVM: the expression that fixed_point.py makes
"""

from collections.abc import Callable

from tvm import tirx
from tvm.ir import Call, register_op_attr

from relay_passes.integers import fixed_point

PURE = 1  # TVM's CallEffectKind: no side effects, and the result depends on the arguments alone


def operator(name: str, definition: Callable[..., tirx.Expr]) -> Callable[..., tirx.Expr]:
    """The TensorIR operator `tirx.stack_<name>` over int32, which is `definition` where LLVM compiles it."""
    full = f"tirx.stack_{name}"
    register_op_attr(full, "TCallEffectKind", PURE)
    register_op_attr(full, "TScriptPrinterName", f"stack_{name}")

    def expand(call: Call) -> tirx.Expr:
        """Each argument is computed once, though the definition reads it several times."""
        variables: list[tirx.Var] = [tirx.Var(f"{name}_{index}", "int32") for index in range(len(call.args))]
        result = definition(*variables)
        for variable, argument in zip(variables, call.args, strict=True):
            result = tirx.Let(variable, argument, result)
        return result

    tirx.register_intrin_lowering(full, "default", f=expand)

    def apply(*arguments: tirx.Expr | int) -> tirx.Expr:
        return tirx.call_intrin("int32", full, *[tirx.const(item, "int32") if isinstance(item, int) else item for item in arguments])

    return apply


requantize = operator("requantize", fixed_point.requantize)
high_mul = operator("high_mul", fixed_point.high_mul)
divide_by_power = operator("divide_by_power", fixed_point.divide_by_power)
reciprocal = operator("reciprocal", fixed_point.reciprocal)
