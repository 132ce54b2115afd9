"""Quantised networks in integers: layers over bytes, between them float32 that never reaches memory.

    quantize(relu(add(conv2d(dequantize(x), dequantize(w)), dequantize(b))))   ->   quantize(relu(call_tir(conv2d, (x, w, b, scale))), 1)
    quantize(add(dequantize(x), dequantize(y)))                                ->   the same, in units of the result

Layers become programs whose sums are of bytes; quantize and dequantize stay operators until all are made programs, and fuse with what is
around them. Whatever else a network does with real numbers it goes on doing.
"""

from typing import Any

import tvm
from tvm import relax
from tvm.ir.transform import Pass

from relay_passes.bytes import channels_last, dynamic, planes, results, sums, tables, unsigned
from relay_passes.bytes.largest import largest_rule
from relay_passes.canonicalize_ops import canonicalize_ops
from relay_passes.choices import Choices
from relay_passes.fold_constants import compute, known_shape
from relay_passes.integers import move_dequantize
from relay_passes.integers.lower_integers import settle
from relay_passes.integers.programs import Programs
from relay_passes.rewrite import dtype, op_name, rewrite_pass
from schedules.machine import Machine

fold_around_weights = rewrite_pass("fold_around_weights", [compute, known_shape])  # a dequantize of weights stays what it is


def is_quantized(function: relax.Function) -> bool:
    """Whether anything turns numbers that are computed into bytes, or multiplies whole numbers."""
    values = [binding.value for block in function.body.blocks for binding in block.bindings]
    return any(op_name(value) == "relax.quantize" or (op_name(value) == "relax.matmul" and dtype(value) == "int32") for value in values)


def has_sign(function: relax.Function) -> bool:
    """Whether numbers that are computed become signed bytes. Quantisers give all activations of a network one type."""
    values = [binding.value for block in function.body.blocks for binding in block.bindings]
    return any(op_name(value) == "relax.quantize" and dtype(value) == "int8" for value in values)


def lower_bytes(machine: Machine, choices: Choices) -> Pass:
    """The pass for one machine. One without dot products of bytes is faster in floats."""

    @tvm.transform.module_pass(opt_level=0, name="lower_bytes")
    def run(module: tvm.IRModule, _context: Any) -> tvm.IRModule:
        functions = {variable: function for variable, function in module.functions_items() if isinstance(function, relax.Function)}
        if not any(is_quantized(function) for function in functions.values()):
            return module
        if choices.choose("quantized", ("bytes", "floats") if machine.int8_dot else ("floats", "bytes")) == "floats":
            return module
        module = canonicalize_ops(fold_around_weights(module))
        programs = Programs(module)
        for variable in functions:
            half = unsigned.HALF if has_sign(module[variable]) else 0
            function = settle(module[variable], module, [unsigned.RULES, channels_last.RULES])
            function = settle(
                function,
                module,
                [
                    [*results.EARLY, planes.real_sum_of_bytes],
                    [sums.sum_rule(programs)],
                    move_dequantize.RULES,
                    [tables.table_rule(programs, half), results.result_rule(programs, half)],
                ],
            )
            function = settle(function, module, [[dynamic.scaled_rule(programs), largest_rule(programs)]])
            function = settle(function, module, [[results.layer_rule(programs), dynamic.dynamic_rule(programs)]])
            programs.builder.update_func(variable, function)
        return programs.builder.get()

    return run
