"""Give every tensor program a short name that says what it computes, numbered in the order of first use.

    fused_conv2d8_add6_add7_relu5      ->   conv2d_add_add_relu_3
    fused_reshape_concatenate...       ->   reshape_concatenate_...       (cut at sixty characters)

These names become C symbols, lines of a profile and file names, and file systems end at 255 characters.
"""

import re
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar
from tvm.relax.expr import _update_type  # the one way to give a GlobalVar a type from Python

from relay_passes.rewrite import Graph, Walk, op_name

LONGEST = 60
# programs of one operator that would take the name, and so the place, of a function of the C library
C_LIBRARY = frozenset(
    [
        "abs",
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atanh",
        "ceil",
        "cos",
        "cosh",
        "erf",
        "exp",
        "exp2",
        "floor",
        "fmod",
        "isfinite",
        "isinf",
        "isnan",
        "log",
        "log10",
        "log1p",
        "log2",
        "pow",
        "remainder",
        "rint",
        "round",
        "sin",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
        "trunc",
    ]
)


def readable(name: str) -> str:
    """`fused_conv2d8_add6_relu` -> `conv2d_add_relu`: without the numbers that keep TVM's names apart, or its `tir_`."""
    words = [re.sub(r"(?<=\D)\d+$", "", word) for word in name.removeprefix("fused_").split("_")]
    short = "_".join(word for word in words if word and word != "tir")
    if short in C_LIBRARY:
        return f"{short}_each"
    return short if len(short) <= LONGEST else short[:LONGEST].rpartition("_")[0] or short[:LONGEST]


class Rename(Walk):
    def __init__(self, graph: Graph, names: dict[GlobalVar, GlobalVar]) -> None:
        super().__init__(graph, {})
        self.names = names

    def renew(self, expr: relax.Expr) -> relax.Expr:
        return self.names.get(expr, expr) if isinstance(expr, GlobalVar) else super().renew(expr)


def called(function: relax.Function) -> list[GlobalVar]:
    """The programs that a function calls, in order."""
    values = [binding.value for block in function.body.blocks for binding in block.bindings]
    return [value.args[0] for value in values if op_name(value) == "relax.call_tir"]


def named(name: str, like: GlobalVar) -> GlobalVar:
    """A variable for the same function under another name; calls are checked against its type."""
    var = GlobalVar(name)
    _update_type(var, like.ty)
    return var


def new_names(module: tvm.IRModule) -> dict[GlobalVar, GlobalVar]:
    """What each program that is called by a wrong name should be called instead."""
    result: dict[GlobalVar, GlobalVar] = {}
    taken = {var.name_hint for var, function in module.functions.items() if not isinstance(function, tirx.PrimFunc)}
    functions = {var.name_hint: function for var, function in module.functions.items() if isinstance(function, relax.Function)}
    for old in [var for _, function in sorted(functions.items()) for var in called(function)]:
        if old in result:
            continue
        name = stem = readable(old.name_hint)
        number = 0
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        result[old] = old if name == old.name_hint else named(name, old)
    return {old: new for old, new in result.items() if new is not old}


@tvm.transform.module_pass(opt_level=0, name="name_programs")
def name_programs(module: tvm.IRModule, _context: Any) -> tvm.IRModule:
    names = new_names(module)
    if not names:
        return module
    renamed = {}
    for var, function in module.functions.items():
        if isinstance(function, relax.Function):
            function = Rename(Graph(module, function), names).run(function)
        elif "global_symbol" in (function.attrs or {}) and var in names:
            function = function.with_attr("global_symbol", names[var].name_hint)
        renamed[names.get(var, var)] = function
    return tvm.IRModule(renamed, attrs=module.attrs)
