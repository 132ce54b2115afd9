"""Loops over int64, written directly: the rules for bytes make programs that no schedule primitive leads to."""

from tvm import tirx

KIND = "int64"


def const(value: int) -> tirx.Expr:
    return tirx.const(value, KIND)


def var(name: str) -> tirx.Var:
    return tirx.Var(name, KIND)


def loop(variable: tirx.Var, extent: int, body: tirx.Stmt, kind: tirx.ForKind = tirx.ForKind.SERIAL) -> tirx.Stmt:
    return tirx.For(variable, const(0), const(extent), kind, body)


def unrolled(variable: tirx.Var, extent: int, body: tirx.Stmt) -> tirx.Stmt:
    return loop(variable, extent, body, tirx.ForKind.UNROLLED)


def vector(variable: tirx.Var, lanes: int, body: tirx.Stmt) -> tirx.Stmt:
    return loop(variable, lanes, body, tirx.ForKind.VECTORIZED)
