"""What an expression computes more than once, so that it gets a name.

    y[i] = (x[i] + b) * (x[i] + b)     ->     const int32_t t = x[i] + b;  y[i] = t * t;

Inlining leaves such expressions behind. Only what is computed in any case is named: a load behind a condition may be out of bounds
without it.
"""

from collections.abc import Collection, Iterator, Sequence

import tvm
from tvm import tirx
from tvm.ir import TensorLoad

LEAVES = (tirx.Var, tirx.IntImm, tirx.FloatImm, tvm.ir.StringImm)
FIELDS = ("a", "b", "value", "condition", "true_value", "false_value")


def children(expr: tirx.Expr) -> list[tirx.Expr]:
    """The operands of `expr`, in order."""
    if isinstance(expr, LEAVES):
        return []
    if isinstance(expr, TensorLoad):
        return list(expr.indices)
    if isinstance(expr, tvm.ir.Call):
        return list(expr.args)
    return [getattr(expr, field) for field in FIELDS if hasattr(expr, field)]


def lazy(expr: tirx.Expr) -> int:
    """How many of the first operands are computed in any case; the others only under a condition."""
    return 1 if isinstance(expr, tirx.Select) or getattr(getattr(expr, "op", None), "name", "") == "prim.if_then_else" else 1 << 30


class Numbering:
    """Equal expressions have equal numbers; `reads` has the buffers that each of them reads."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[object, ...], int] = {}
        self.reads: dict[int, frozenset[tirx.Expr]] = {}

    def number(self, expr: tirx.Expr) -> int:
        key = self.key(expr)
        number = self.numbers.setdefault(key, len(self.numbers))
        if number not in self.reads:
            own = frozenset([expr.source]) if isinstance(expr, TensorLoad) else frozenset()
            self.reads[number] = own.union(*(self.reads[self.number(child)] for child in children(expr)))
        return number

    def key(self, expr: tirx.Expr) -> tuple[object, ...]:
        if isinstance(expr, tirx.Var):
            return ("variable", hash(expr))
        if isinstance(expr, LEAVES):
            return ("constant", str(getattr(expr, "ty", "")), repr(expr.value))
        of: object = hash(expr.source) if isinstance(expr, TensorLoad) else getattr(getattr(expr, "op", None), "name", "")
        return (type(expr).__name__, str(expr.ty), of, *(self.number(child) for child in children(expr)))

    def always(self, expr: tirx.Expr) -> Iterator[tirx.Expr]:
        """All that is computed in any case, operands first."""
        for child in children(expr)[: lazy(expr)]:
            yield from self.always(child)
        yield expr


def worth_a_name(expr: tirx.Expr) -> bool:
    """Neither a constant nor a variable, nor one of them in another type or with a constant added."""
    if isinstance(expr, tirx.Cast):
        return worth_a_name(expr.value)
    if isinstance(expr, tirx.Add | tirx.Sub | tirx.Mul) and isinstance(expr.b, tirx.IntImm):
        return worth_a_name(expr.a)
    if isinstance(expr, TensorLoad):
        return not all(isinstance(index, tirx.IntImm) for index in expr.indices)
    return not isinstance(expr, LEAVES)


def repeated(roots: Sequence[tirx.Expr], numbering: Numbering, changing: Collection[tirx.Expr]) -> list[tirx.Expr]:
    """What `roots` compute more than once, operands first; what repeats only as part of a larger repetition is left out.

    `changing` are the buffers that are written between them.
    """
    uses: dict[int, int] = {}

    def count(expr: tirx.Expr) -> None:
        number = numbering.number(expr)
        uses[number] = uses.get(number, 0) + 1
        if uses[number] == 1:
            for child in children(expr):
                count(child)

    for root in roots:
        count(root)
    found: dict[int, tirx.Expr] = {}
    for root in roots:
        for expr in numbering.always(root):
            number = numbering.number(expr)
            if uses[number] > 1 and number not in found and worth_a_name(expr) and numbering.reads[number].isdisjoint(changing):
                found[number] = expr
    return list(found.values())
