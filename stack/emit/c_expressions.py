"""TensorIR expressions -> C expressions with the same value, without needless parentheses, casts or width.

    T.Cast("int64", x[i]) * T.Cast("int64", m[0])     ->     (int64_t)x[i] * m[0]
    T.Cast("int8", T.max(T.min(v, 127), -128))        ->     stack_clip(v, -128, 127)
    (i - 1) // 2                                      ->     (i - 1) >> 1        (or / 2, where i >= 1 is known)

C computes in `int` or wider. A TensorIR expression of 64 bits whose bounds fit 32 is computed in 32; one of 8 or 16 bits that may leave its
type is cut to it. Sums and products of 32 and 64 bits must not overflow, as in TVM's own code generators; shifts to the left may.
"""

from collections.abc import Sequence

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.sym import Analyzer

from stack.emit import c_types as c
from stack.emit.c_places import Places
from stack.emit.c_share import Numbering
from stack.emit.c_types import Text
from stack.errors import UnsupportedOp

ARITHMETIC = {tirx.Add: ("+", c.ADD), tirx.Sub: ("-", c.ADD), tirx.Mul: ("*", c.MUL), tirx.Div: ("/", c.MUL), tirx.Mod: ("%", c.MUL)}
BITS = {tirx.BitwiseAnd: "&", tirx.BitwiseOr: "|", tirx.BitwiseXor: "^"}
COMPARISONS = {
    tirx.LT: ("<", c.RELATION), tirx.LE: ("<=", c.RELATION), tirx.GT: (">", c.RELATION), tirx.GE: (">=", c.RELATION),
    tirx.EQ: ("==", c.EQUALITY), tirx.NE: ("!=", c.EQUALITY),
}  # fmt: skip
MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
LOGIC = {tirx.And: ("&&", c.AND), tirx.Or: ("||", c.OR)}
SUFFIX = {"i32": "", "i64": "64", "f32": "f"}  # of our functions for each kind
MATH = {
    "exp", "exp2", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh",
    "asinh", "acosh", "atanh", "sqrt", "floor", "ceil", "trunc", "rint", "nearbyint", "fabs", "pow", "fmod", "hypot",
    "copysign", "erf", "nextafter", "ldexp",
}  # fmt: skip
TESTS = {"tirx.isnan": "isnan", "tirx.isinf": "isinf", "tirx.isfinite": "isfinite"}


def number(value: int, dtype: str) -> Text:
    if value == -(1 << 31):
        return Text("INT32_MIN", c.POSTFIX, "i32")
    if value == -(1 << 63):
        return Text("INT64_MIN", c.POSTFIX, "i64")
    kind = "i32" if c.fits((value, value), "int32") else "u32" if dtype == "uint32" else "u64" if dtype == "uint64" else "i64"
    text = str(value) + {"i32": "", "u32": "u", "i64": "LL", "u64": "ULL"}[kind]
    return Text(text, c.POSTFIX if value >= 0 else c.UNARY, kind)


def real(value: float, dtype: str) -> Text:
    kind = c.COMPUTED[dtype]
    if not np.isfinite(value):
        text = "NAN" if np.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"
    else:
        text = str(np.float32(value) if dtype == "float32" else value)
        text += "" if "." in text or "e" in text else ".0"
        text += "f" if dtype == "float32" else ""
    return Text(text, c.UNARY if text.startswith("-") else c.POSTFIX, kind)


class Expressions:
    """Prints the expressions of one program. `named` holds expressions that have got a name, by number."""

    def __init__(self, program: str, places: Places) -> None:
        self.program, self.places = program, places
        self.analyzer, self.numbering = Analyzer(), Numbering()
        self.variables: dict[tirx.Var, Text] = {}
        self.named: dict[int, Text] = {}

    def refuse(self, what: str) -> UnsupportedOp:
        return UnsupportedOp(
            f"{what} cannot be written in C for microcontrollers",
            at=self.program,
            hint="give the model in float32, or quantised to int8, without this operator",
        )

    def bounds(self, expr: tirx.Expr) -> tuple[int, int]:
        if isinstance(expr, tirx.Cast) and c.integral(str(expr.value.ty)) and c.integral(str(expr.ty)):
            inner = self.bounds(expr.value)
            return inner if c.fits(inner, str(expr.ty)) else c.limits(str(expr.ty))
        if self.masks_negatives(expr):
            return c.limits(str(expr.ty) if isinstance(expr, tirx.BitwiseAnd) else "int64")
        found = self.analyzer.const_int_bound(expr)
        return int(found.min_value), int(found.max_value)

    def masks_negatives(self, expr: tirx.Expr) -> bool:
        """Whether `expr` has `a & b` of two numbers that may be negative: TVM's analyzer takes that for positive."""
        found: list[tirx.BitwiseAnd] = []
        tvm_ffi.structural_walk(expr, (tirx.BitwiseAnd, found.append))
        lows = [[int(self.analyzer.const_int_bound(side).min_value) for side in (node.a, node.b)] for node in found]
        return any(max(pair) < 0 for pair in lows)

    def dtype(self, expr: tirx.Expr) -> str:
        name = str(expr.ty)
        if name not in c.DECLARED:
            raise self.refuse(f"the type {name}")
        return name

    def emit(self, expr: tirx.Expr) -> Text:
        if self.named and (name := self.named.get(self.numbering.number(expr))):
            return name
        kind = type(expr)
        if kind is tirx.Var:
            return self.variables[expr]
        if kind is tirx.IntImm:
            return number(int(expr.value), self.dtype(expr))
        if kind is tirx.FloatImm:
            return real(float(expr.value), self.dtype(expr))
        if kind is TensorLoad:
            return self.load(expr.source, expr.indices)
        if kind in ARITHMETIC:
            return self.arithmetic(expr)
        if kind in (tirx.FloorDiv, tirx.FloorMod):
            return self.floor(expr)
        if kind in (tirx.Min, tirx.Max):
            return self.extremum(expr)
        if kind in COMPARISONS:
            return self.comparison(expr)
        if kind in LOGIC:
            sign, level = LOGIC[kind]
            left, right = (self.emit(operand) for operand in (expr.a, expr.b))
            return Text(f"{self.clause(left, level)} {sign} {self.clause(right, level)}", level, "i32")
        if kind is tirx.Not:
            return Text(f"!{self.emit(expr.a).inside(c.UNARY)}", c.UNARY, "i32")
        if kind in BITS:
            return self.bits(expr)
        if kind is tirx.BitwiseNot:
            return self.complement(expr)
        if kind in (tirx.LShift, tirx.RShift):
            return self.shift(expr)
        if kind is tirx.Cast:
            return self.cast(expr)
        if kind is tirx.Select:
            return self.choice(expr, expr.condition, expr.true_value, expr.false_value)
        if kind is tirx.Let:
            body = tvm_ffi.structural_map(expr.body, (tirx.Var, lambda var: expr.value if var.same_as(expr.var) else var))
            return self.emit(body)
        if kind is tvm.ir.Call:
            return self.call(expr)
        raise self.refuse(f"the expression {kind.__name__}")

    def clause(self, part: Text, level: int) -> str:
        """`&&` inside `||` in parentheses, as compilers ask for."""
        return part.inside(c.EQUALITY if part.binds != level else level)

    def load(self, buffer: tirx.Expr, indices: Sequence[tirx.Expr]) -> Text:
        kind = c.COMPUTED[self.dtype_of_buffer(buffer)]
        return Text(self.element(buffer, indices), c.POSTFIX, kind)

    def dtype_of_buffer(self, buffer: tirx.Expr) -> str:
        name = str(buffer.dtype)
        if name not in c.DECLARED:
            raise self.refuse(f"the type {name}")
        return name

    def element(self, buffer: tirx.Expr, indices: Sequence[tirx.Expr]) -> str:
        """The name of a scalar, or array[index]."""
        place, (address,) = self.places[buffer], indices
        return place.scalars[int(address)] if place.scalars else f"{place.name}[{self.emit(address).text}]"

    def settle(self, left: Text, right: Text, expr: tirx.Expr) -> tuple[Text, Text, str]:
        """The operands of `expr`, so that C computes its value, and the kind in which C does."""
        dtype = self.dtype(expr)
        wanted, kind = c.COMPUTED[dtype], c.common(left.kind, right.kind)
        if kind == wanted or (
            kind[0] != "f" and wanted[0] != "f" and c.fits(bounds := self.bounds(expr), kind_dtype(kind)) and c.fits(bounds, dtype)
        ):
            return left, right, kind
        if left.text.lstrip("-").isdigit():
            return left, c.convert(right, wanted), wanted
        return c.convert(left, wanted), right, wanted

    def cut(self, value: Text, expr: tirx.Expr) -> Text:
        """`value` wrapped around where it may leave the type of `expr`, which has less than 32 bits."""
        dtype = self.dtype(expr)
        if c.itemsize(dtype) >= 4 or not c.integral(dtype) or c.fits(self.bounds(expr), dtype):
            return value
        return c.cast(value, c.DECLARED[dtype], "i32")

    def arithmetic(self, expr: tirx.Add) -> Text:
        sign, level = ARITHMETIC[type(expr)]
        left, right = self.emit(expr.a), self.emit(expr.b)
        if sign == "*" and right.text == "-1":
            return (
                self.cut(Text(f"-{left.inside(c.UNARY)}", c.UNARY, left.kind), expr)
                if left.kind == c.COMPUTED[self.dtype(expr)]
                else self.binary(left, "*", right, c.MUL, expr)
            )
        if sign in "+-" and right.text.startswith("-") and right.text[1:2].isdigit():
            sign, right = "-" if sign == "+" else "+", Text(right.text[1:], c.POSTFIX, right.kind)
        return self.binary(left, sign, right, level, expr)

    def binary(self, left: Text, sign: str, right: Text, level: int, expr: tirx.Expr) -> Text:
        left, right, kind = self.settle(left, right, expr)
        return self.cut(Text(f"{left.inside(level)} {sign} {right.inside(level + 1)}", level, kind), expr)

    def floor(self, expr: tirx.FloorDiv) -> Text:
        """Division that rounds down: as C's where nothing is negative, a shift or a mask by powers of two, else a function."""
        divides = isinstance(expr, tirx.FloorDiv)
        left, right = self.emit(expr.a), self.emit(expr.b)
        if self.bounds(expr.a)[0] >= 0 and self.bounds(expr.b)[0] > 0:
            return self.binary(left, "/" if divides else "%", right, c.MUL, expr)
        low, high = self.bounds(expr.b)
        if low == high and low > 0 and low & (low - 1) == 0:
            level, sign, operand = (c.SHIFT, ">>", low.bit_length() - 1) if divides else (c.BIT_AND, "&", low - 1)
            return Text(f"{left.inside(c.UNARY)} {sign} {operand}", level, left.kind)
        left, right, kind = self.settle(left, right, expr)
        name = ("stack_floordiv" if divides else "stack_floormod") + SUFFIX[kind]
        return Text(f"{name}({left.text}, {right.text})", c.POSTFIX, kind)

    def extremum(self, expr: tirx.Min) -> Text:
        """Smaller or larger of two; one of each by constants is a clip."""
        inner = expr.a
        other = tirx.Max if isinstance(expr, tirx.Min) else tirx.Min
        if isinstance(inner, other) and all(isinstance(bound, tirx.IntImm | tirx.FloatImm) for bound in (expr.b, inner.b)):
            low, high = (inner.b, expr.b) if isinstance(expr, tirx.Min) else (expr.b, inner.b)
            value = self.emit(inner.a)
            if value.kind in ("i32", "f32") and low.value <= high.value:
                return Text(
                    f"stack_clip{SUFFIX[value.kind]}({value.text}, {self.emit(low).text}, {self.emit(high).text})", c.POSTFIX, value.kind
                )
        left, right, kind = self.settle(self.emit(expr.a), self.emit(expr.b), expr)
        if kind in SUFFIX:
            name = ("stack_min" if isinstance(expr, tirx.Min) else "stack_max") + SUFFIX[kind]
            return Text(f"{name}({left.text}, {right.text})", c.POSTFIX, kind)
        sign = "<" if isinstance(expr, tirx.Min) else ">"
        test = f"{left.inside(c.RELATION)} {sign} {right.inside(c.SHIFT)}"
        return Text(f"{test} ? {left.text} : {right.inside(c.CONDITION)}", c.CONDITION, kind)

    def comparison(self, expr: tirx.LT) -> Text:
        sign, level = COMPARISONS[type(expr)]
        a, b = (expr.b, expr.a) if isinstance(expr.a, tirx.IntImm | tirx.FloatImm) else (expr.a, expr.b)
        left, right = self.emit(a), self.emit(b)
        sign = sign if a.same_as(expr.a) else MIRRORED[sign]
        if sign in (">", "!=") and right.text == "0" and "bool" in (str(a.ty), str(getattr(getattr(a, "value", None), "ty", ""))):
            return left  # a truth, maybe as a number
        if {left.kind, right.kind} in ({"i32", "u32"}, {"i64", "u64"}):
            kind = c.common(left.kind, right.kind)
            left, right = c.convert(left, kind), c.convert(right, kind)
        return Text(f"{left.inside(level + 1)} {sign} {right.inside(level + 1)}", level, "i32")

    def bits(self, expr: tirx.BitwiseAnd) -> Text:
        left, right, kind = self.settle(self.emit(expr.a), self.emit(expr.b), expr)
        level = {"&": c.BIT_AND, "|": c.BIT_OR, "^": c.BIT_XOR}[BITS[type(expr)]]
        return Text(f"{left.inside(c.UNARY)} {BITS[type(expr)]} {right.inside(c.UNARY)}", level, kind)

    def complement(self, expr: tirx.BitwiseNot) -> Text:
        """In unsigned types only their own bits."""
        dtype, value = self.dtype(expr), self.emit(expr.a)
        unsigned = dtype.startswith("u")
        value = c.convert(value, c.COMPUTED[dtype]) if unsigned else value
        result = Text(f"~{value.inside(c.UNARY)}", c.UNARY, value.kind)
        return c.cast(result, c.DECLARED[dtype], "i32") if unsigned and c.itemsize(dtype) < 4 else result

    def shift(self, expr: tirx.LShift) -> Text:
        """To the right with the sign; to the left in unsigned arithmetic, unless no bit can be lost."""
        dtype, value, amount = self.dtype(expr), self.emit(expr.a), self.emit(expr.b)
        (low, high), (least, most) = self.bounds(expr.a), self.bounds(expr.b)
        wide = c.COMPUTED[dtype]
        if most > 31:
            value = c.convert(value, wide)
        if isinstance(expr, tirx.RShift):
            return Text(f"{value.inside(c.UNARY)} >> {amount.inside(c.UNARY)}", c.SHIFT, value.kind)
        known = least >= 0 and most < 64
        kinds = [kind for kind in (value.kind, wide) if known and c.fits((low << most if low < 0 else low, high << most), kind_dtype(kind))]
        if kinds:
            value = c.convert(value, kinds[0])
            if low >= 0:
                shifted = Text(f"{value.inside(c.UNARY)} << {amount.inside(c.UNARY)}", c.SHIFT, value.kind)
            elif least == most:
                shifted = Text(f"{value.inside(c.MUL)} * {number(1 << most, dtype).text}", c.MUL, value.kind)
            else:
                one = "1" if value.kind == "i32" else f"({c.NAMES[value.kind]})1"
                shifted = Text(f"{value.inside(c.MUL)} * ({one} << {amount.inside(c.UNARY)})", c.MUL, value.kind)
        else:
            unsigned = c.cast(value, f"uint{32 if wide in ('i32', 'u32') else 64}_t", "u" + wide[1:])
            shifted = Text(f"{unsigned.text} << {amount.inside(c.UNARY)}", c.SHIFT, unsigned.kind)
            shifted = shifted if wide == unsigned.kind else c.cast(shifted, c.NAMES[wide], wide)
        if c.itemsize(dtype) < 4 and not (known and c.fits((low << most if low < 0 else low, high << most), dtype)):
            shifted = c.cast(shifted, c.DECLARED[dtype], "i32")
        return shifted

    def cast(self, expr: tirx.Cast) -> Text:
        source, target, value = self.dtype(expr.value), self.dtype(expr), self.emit(expr.value)
        wanted = c.COMPUTED[target]
        if target == "bool":
            zero = "0" if c.integral(source) else "0.0f" if source == "float32" else "0.0"
            return value if source == "bool" else Text(f"{value.inside(c.RELATION)} != {zero}", c.EQUALITY, "i32")
        if c.integral(source) and c.integral(target):
            bounds = self.bounds(expr.value)
            if c.fits(bounds, target) and (value.kind in ("i32", wanted) or (value.kind == "u32" and wanted in ("i64", "u64"))):
                return value  # C widens by itself where it matters
        elif source == target:
            return value
        return c.cast(value, c.DECLARED[target], wanted)

    def choice(self, expr: tirx.Expr, condition: tirx.Expr, then: tirx.Expr, otherwise: tirx.Expr) -> Text:
        test = self.emit(condition)
        with self.analyzer.constraint_scope(condition):
            left = self.emit(then)
        with self.analyzer.constraint_scope(self.analyzer.simplify(tirx.Not(condition))):
            right = self.emit(otherwise)
        if left.kind != right.kind and "u" in left.kind + right.kind:
            left, right = (c.convert(side, c.COMPUTED[self.dtype(expr)]) for side in (left, right))
        kind = c.common(left.kind, right.kind)
        return Text(f"{test.inside(c.OR)} ? {left.inside(c.CONDITION)} : {right.inside(c.CONDITION)}", c.CONDITION, kind)

    def call(self, call: tvm.ir.Call) -> Text:
        name, arguments = str(getattr(call.op, "name", call.op)), list(call.args)
        if name == "prim.if_then_else":
            return self.choice(call, *arguments)
        if name == "prim.likely":
            return self.emit(arguments[0])
        if name in ("tirx.call_extern", "tirx.call_pure_extern"):
            name, *arguments = str(arguments[0].value), *arguments[1:]
            return self.function(name, arguments, call)
        if name.startswith("tirx.stack_"):
            return self.function(name.removeprefix("tirx."), arguments, call)
        if name in TESTS:
            return self.function(TESTS[name], arguments, call)
        dtype = self.dtype(call)
        single = dtype == "float32"
        base = name.split(".")[-1]
        base = "rint" if base == "round" else base  # to even, as LLVM has it
        if base in MATH and not c.integral(dtype):
            return self.function(base + "f" * single, arguments, call)
        if base.startswith("stack_"):  # operators of relay_passes/integers/intrinsics.py
            return self.function(base, arguments, call)
        if base == "sigmoid" and single:
            return self.function("stack_sigmoidf", arguments, call)
        if base == "rsqrt" and single:
            return Text(f"1.0f / {self.function('sqrtf', arguments, call).text}", c.MUL, "f32")
        if base in ("clz", "popcount"):
            wide = "ll" if c.itemsize(self.dtype(arguments[0])) == 8 else ""
            return self.function(f"__builtin_{base}{wide}", arguments, call)
        if base == "reinterpret" and {dtype, self.dtype(arguments[0])} == {"float32", "int32"}:
            return self.function("stack_float_of_bits" if single else "stack_bits_of_float", arguments, call)
        raise self.refuse(f"the operator {base}")

    def function(self, name: str, arguments: Sequence[tirx.Expr], call: tvm.ir.Call) -> Text:
        return Text(f"{name}({', '.join(self.emit(argument).text for argument in arguments)})", c.POSTFIX, c.COMPUTED[self.dtype(call)])


def kind_dtype(kind: str) -> str:
    """The integer type of a kind of arithmetic."""
    return c.NAMES[kind].removesuffix("_t")
