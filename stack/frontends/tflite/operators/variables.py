"""Variables of streaming networks: reads are what was last written, and writes are remembered for the next run.

Which variable a handle stands for, and what it holds at first, is found before (see states.py).
"""

from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused


def name(c: Conversion) -> str:
    handle = c.node.inputs[0] if c.node.inputs else -1
    if handle not in c.handles:
        raise Refused("its variable is not one that VAR_HANDLE names")
    return c.handles[handle]


def read(c: Conversion) -> relax.Expr:
    return c.states[name(c)]


def assign(c: Conversion) -> list[relax.Expr]:
    c.set_state(name(c), c.stored(1))
    return []


def nothing(_c: Conversion) -> list[relax.Expr]:
    return []


STORED: dict[str, Converter] = {"ASSIGN_VARIABLE": assign, "CALL_ONCE": nothing, "READ_VARIABLE": read, "VAR_HANDLE": nothing}
