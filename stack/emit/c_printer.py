"""One TensorIR program, scheduled or not -> one C99 function that reads as if a person had written it.

    @T.prim_func                                     static void relu(const int8_t *x, int8_t *y) {
    def main(x: T.Buffer((16,), "int8"),               for (int i = 0; i < 16; i++) {
             y: T.Buffer((16,), "int8")): ...    ->      y[i] = (int8_t)stack_max(x[i], 0);
                                                       }
                                                     }

For programs of microcontrollers that no rule wrote a kernel for. The function needs <stdint.h>, <string.h>, <math.h> and
the intrinsics that its text names.
"""

import json
import re

import tvm
from tvm import tirx

from schedules.mcu.kernel import Kernel
from stack.emit import c_types as c
from stack.emit.c_expressions import Expressions
from stack.emit.c_lower import lower
from stack.emit.c_names import Names
from stack.emit.c_overlap import computed_in_place
from stack.emit.c_places import Place, elements, in_scratch, use
from stack.emit.c_statements import Statements


def print_kernels(module: tvm.IRModule) -> tvm.IRModule:
    """`module`, where each program that no rule wrote in C has its source, scratch memory and permitted overlaps as attributes."""
    printed = tvm.IRModule(dict(module.functions), attrs=module.attrs)
    for name, program in module.functions.items():
        if isinstance(program, tirx.PrimFunc) and "stack.c" not in program.attrs:
            printed[name] = print_kernel(program, name.name_hint)
    return printed


def print_kernel(program: tirx.PrimFunc, title: str) -> tirx.PrimFunc:
    """The program with its loops written on it in C, as the rules of `schedules.mcu` do; errors call it `title`."""
    lowered = lower(program)
    overlap = {str(index): [0, False] for index in computed_in_place(lowered.loops)}
    source, scratch = function(lowered.statements, "KERNEL", title, restrict=not overlap and noalias(program))
    return program.with_attrs({"stack.c": source, "stack.scratch": scratch, "stack.overlap": json.dumps(overlap)})


def print_function(program: tirx.PrimFunc, name: str) -> Kernel:
    """The program as the C function `name`: parameters in the program's order, then `void *scratch` where it needs any.

    Scratch memory is aligned to 8 bytes. Types: bool, integers of 8 to 64 bits, float32, float64; others raise UnsupportedOp.
    """
    lowered = lower(program)
    in_place = computed_in_place(lowered.loops)
    source, scratch = function(lowered.statements, name, name, restrict=noalias(program) and not in_place)
    return Kernel(source, scratch, overlap=0 if 0 in in_place else None)


def function(lowered: tirx.PrimFunc, name: str, title: str, restrict: bool) -> tuple[str, int]:
    """The C function, and how many bytes of scratch memory it wants. Errors call the program `title`."""
    found = use(lowered.body)
    names, expressions = Names(frozenset({name, "scratch"})), Expressions(title, {})
    offsets, scratch = in_scratch(found)
    parameters = []
    for buffer in lowered.params:
        dtype = expressions.dtype_of_buffer(buffer)
        word = names.new(buffer.name)
        expressions.places[buffer] = Place(word, dtype, elements(buffer))
        parameters.append(f"{'' if buffer in found.stored else 'const '}{c.DECLARED[dtype]} *{'restrict ' if restrict else ''}{word}")
    if offsets:
        parameters.append("void *scratch")
    statements = Statements(expressions, names, found, offsets, restrict)
    statements.emit(lowered.body)
    statements.declare_pending()
    words = set(re.findall(r"\w+", "\n".join(statements.lines)))
    places = [expressions.places[buffer].name for buffer in lowered.params]
    unused = [f"  (void){place};" for place in places if place not in words]
    return "\n".join([f"static void {name}({', '.join(parameters)}) {{", *unused, *statements.lines, "}"]) + "\n", scratch


def noalias(program: tirx.PrimFunc) -> bool:
    return bool(program.attrs and program.attrs.get("tirx.noalias", False))
