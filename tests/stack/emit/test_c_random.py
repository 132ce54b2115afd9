"""Random integer expressions of all types: what C computes is what LLVM computes."""

import random
from pathlib import Path

import pytest
from tvm import te, tirx

from tests.stack.emit.printed import program, run_c, run_tvm, values

KINDS = ("int8", "uint8", "int16", "uint16", "int32", "int64")


def small(expr: tirx.Expr) -> tirx.Expr:
    """Bits that leave room for sums and products of 32 bits, which must not overflow."""
    return expr & tirx.const(63, str(expr.ty))


class Writer:
    """Expressions over `leaves`, at random; `seed` decides."""

    def __init__(self, seed: int, leaves: list[tirx.Expr]) -> None:
        self.random, self.leaves = random.Random(seed), leaves

    def leaf(self, kind: str) -> tirx.Expr:
        if self.random.random() < 0.2:
            return tirx.const(self.random.randrange(0, 100), kind)
        return self.random.choice(self.leaves).astype(kind)

    def expr(self, kind: str, depth: int) -> tirx.Expr:
        if depth == 0:
            return self.leaf(kind)
        a, b = self.expr(kind, depth - 1), self.expr(kind, depth - 1)
        wide = kind in ("int32", "int64")
        x, y = (small(a), small(b)) if wide else (a, b)
        divisor = tirx.const(self.random.choice([1, 2, 3, 7, 8, 16, 100]), kind)
        bits = tirx.const(self.random.randrange(0, 5), kind)
        other = self.random.choice(KINDS)
        forms = [
            lambda: x + y, lambda: x - y, lambda: x * y, lambda: tirx.floordiv(a, divisor), lambda: tirx.floormod(a, divisor),
            lambda: tirx.truncdiv(a, divisor), lambda: tirx.truncmod(a, divisor), lambda: te.max(a, b), lambda: te.min(a, b),
            lambda: a >> bits, lambda: a & b, lambda: a | b, lambda: a ^ b, lambda: ~a, lambda: x << bits,
            lambda: tirx.Select(a < b, a, b), lambda: tirx.if_then_else(tirx.all(a != b, a >= divisor), x - divisor, b),
            lambda: self.expr(other, depth - 1).astype(kind), lambda: te.max(te.min(a, tirx.const(90, kind)), divisor),
        ]  # fmt: skip
        return self.random.choice(forms)()


def made(seed: int) -> tuple[list[te.Tensor], te.Tensor]:
    inputs = [te.placeholder((48,), kind, f"x{index}") for index, kind in enumerate(KINDS)]

    def element(i: tirx.Var) -> tirx.Expr:
        writer = Writer(seed, [*[x[i] for x in inputs], inputs[0][47 - i]])
        kind = writer.random.choice(KINDS)
        total = writer.expr(kind, 3)
        return total.astype("int32")

    return inputs, te.compute((48,), element, "y")


@pytest.mark.parametrize("seed", [*range(10), 12, 21, 90])
def test_c_computes_random_expressions_as_llvm_does(seed: int, tmp_path: Path) -> None:
    inputs, output = made(seed)
    function = program(inputs, output)
    arrays = values(inputs, seed)
    assert (run_c(function, arrays, tmp_path) == run_tvm(function, arrays)).all()
