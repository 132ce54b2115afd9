"""Operators that compute each element on its own, or each pair of elements of two broadcast tensors."""

import functools
from collections.abc import Callable

from tvm import relax

from stack.frontends.tflite.conversion import Conversion, Converter, Refused


def unary(operator: Callable[[relax.Expr], relax.Expr]) -> Converter:
    return lambda c: operator(c.real(0))


def binary(operator: Callable[[relax.Expr, relax.Expr], relax.Expr]) -> Converter:
    return lambda c: operator(c.real(0), c.real(1))


def stored_binary(operator: Callable[[relax.Expr, relax.Expr], relax.Expr]) -> Converter:
    return lambda c: operator(c.stored(0), c.stored(1))


def divide(c: Conversion) -> relax.Expr:
    if c.tensor(0).dtype != "float32":
        raise Refused(f"a division of {c.tensor(0).dtype} is not compiled, only that of float32")
    return relax.op.divide(c.real(0), c.real(1))


def square(c: Conversion) -> relax.Expr:
    data = c.real(0)
    return relax.op.multiply(data, data)


def squared_difference(c: Conversion) -> relax.Expr:
    difference = c.emit(relax.op.subtract(c.real(0), c.real(1)))
    return relax.op.multiply(difference, difference)


def add_all(c: Conversion) -> relax.Expr:
    terms = [c.real(index) for index in range(len(c.node.inputs))]
    return functools.reduce(lambda left, right: c.emit(relax.op.add(left, right)), terms)


REAL: dict[str, Converter] = {
    "ABS": unary(relax.op.abs),
    "ADD": binary(relax.op.add),
    "ADD_N": add_all,
    "CEIL": unary(relax.op.ceil),
    "COS": unary(relax.op.cos),
    "DIV": divide,
    "EQUAL": binary(relax.op.equal),
    "EXP": unary(relax.op.exp),
    "FLOOR": unary(relax.op.floor),
    "FLOOR_DIV": binary(relax.op.floor_divide),
    "FLOOR_MOD": binary(relax.op.floor_mod),
    "GREATER": binary(relax.op.greater),
    "GREATER_EQUAL": binary(relax.op.greater_equal),
    "LESS": binary(relax.op.less),
    "LESS_EQUAL": binary(relax.op.less_equal),
    "LOG": unary(relax.op.log),
    "MAXIMUM": binary(relax.op.maximum),
    "MINIMUM": binary(relax.op.minimum),
    "MUL": binary(relax.op.multiply),
    "NEG": unary(relax.op.negative),
    "NOT_EQUAL": binary(relax.op.not_equal),
    "POW": binary(relax.op.power),
    "ROUND": unary(relax.op.round),
    "RSQRT": unary(relax.op.rsqrt),
    "SIN": unary(relax.op.sin),
    "SQRT": unary(relax.op.sqrt),
    "SQUARE": square,
    "SQUARED_DIFFERENCE": squared_difference,
    "SUB": binary(relax.op.subtract),
}
STORED: dict[str, Converter] = {
    "LOGICAL_AND": stored_binary(relax.op.logical_and),
    "LOGICAL_NOT": lambda c: relax.op.logical_not(c.stored(0)),
    "LOGICAL_OR": stored_binary(relax.op.logical_or),
}
