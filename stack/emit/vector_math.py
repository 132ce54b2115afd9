"""Elementary functions as plain arithmetic, so that a vector of arguments stays a vector.

    exp(float32x16)  ->  let n = round(x / ln 2), r = x - n * ln 2 in (1 + r + r^2 P(r)) * 2^n

LLVM turns `llvm.exp` on sixteen lanes into sixteen calls of the C library. Here float32 `exp`, `log`, `tanh`, `sigmoid`, `erf` and
`rsqrt`, on vectors and scalars alike, become a polynomial after the usual range reduction (Cody & Waite; Cephes has the same shapes).
Coefficients are minimax fits by iteratively reweighted least squares over the stated interval. Errors against float64, over all of
float32: exp 1.5 ulp, log 1 ulp, tanh 2 ulp, sigmoid 2.5 ulp, erf 4 ulp (2e-7). Infinities, NaN, overflow and subnormal arguments come
out as IEEE 754 has them; what would be a subnormal result of `exp` is 0. Other types, and other functions, are left alone. Two passes,
around `LowerIntrin`: the first gives the calls names that it leaves alone, the second runs last.
"""

import math
from collections.abc import Callable, Sequence

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import PrimType

from stack.emit.calls import calls

# exp(r) = 1 + r + r^2 P(r) on |r| <= ln(2) / 2
EXP = (0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.008368715643882751, 0.0013814599951729178)
# log(1 + f) = f - f^2 / 2 + f^3 P(f) on sqrt(1/2) <= 1 + f < sqrt(2)
LOG = (
    0.3333333134651184, -0.2500081956386566, 0.20001226663589478, -0.16623356938362122,
    0.14201758801937103, -0.13160188496112823, 0.1276157796382904, -0.0763448029756546,
)  # fmt: skip
# tanh(x) = x + x^3 P(x^2) on |x| <= 0.625
TANH = (-0.3333328068256378, 0.13331441581249237, -0.05373971164226532, 0.020639074966311455, -0.005704974289983511)
# erf(x) = x P(s) on |x| <= 3.7, beyond which it is nearly 1; s = 2 (x / 3.7)^2 - 1, in which no two terms cancel
ERF_END = 3.7
ERF = (
    0.3821374773979187, -0.1904682219028473, 0.1407947540283203, -0.1126297116279602, 0.09053338319063187,
    -0.07058034092187881, 0.05207359790802002, -0.03564919903874397, 0.023294879123568535, -0.015167832374572754,
    0.008148327469825745, -0.0027559795416891575, 0.0016464238287881017, -0.0018031506333500147, 0.0006958405137993395,
)  # fmt: skip

LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4  # their sum is ln 2; the first has nine bits, so that n * LN2_HIGH is exact
ROUND = 12582912.0  # 1.5 * 2^23: adding it leaves the nearest integer in the low bits of the float


class Body:
    """Straight-line code over one kind of vector: each `let` names a value, `done` wraps the names around the result."""

    def __init__(self, like: tirx.Expr) -> None:
        self.dtype = str(like.ty)
        self.int_dtype = self.dtype.replace("float32", "int32")
        self.lets: list[tuple[tirx.Var, tirx.Expr]] = []

    def let(self, value: tirx.Expr) -> tirx.Var:
        var = tirx.Var("t", PrimType(str(value.ty)))
        self.lets.append((var, value))
        return var

    def real(self, value: float) -> tirx.Expr:
        return tirx.const(value, self.dtype)

    def integer(self, value: int) -> tirx.Expr:
        return tirx.const(value, self.int_dtype)

    def bits(self, value: tirx.Expr) -> tirx.Expr:
        return tirx.reinterpret(self.int_dtype, value)

    def from_bits(self, value: tirx.Expr) -> tirx.Expr:
        return tirx.reinterpret(self.dtype, value)

    def magnitude(self, value: tirx.Expr) -> tirx.Var:
        return self.let(self.from_bits(tirx.bitwise_and(self.bits(value), self.integer(0x7FFFFFFF))))

    def with_sign_of(self, value: tirx.Expr, sign: tirx.Expr) -> tirx.Expr:
        """`value`, which is not negative, with the sign of `sign`."""
        sign_bit = tirx.bitwise_and(self.bits(sign), self.integer(-(2**31)))
        return self.from_bits(tirx.bitwise_or(self.bits(value), sign_bit))

    def polynomial(self, x: tirx.Expr, coefficients: Sequence[float]) -> tirx.Expr:
        value = self.real(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            value = value * x + self.real(coefficient)
        return value

    def done(self, result: tirx.Expr) -> tirx.Expr:
        for var, value in reversed(self.lets):
            result = tirx.Let(var, value, result)
        return result


def exp(b: Body, x: tirx.Expr) -> tirx.Expr:
    shifted = b.let(x * b.real(math.log2(math.e)) + b.real(ROUND))
    n = b.let(shifted - b.real(ROUND))
    r = b.let((x - n * b.real(LN2_HIGH)) - n * b.real(LN2_LOW))
    p = b.let(b.polynomial(r, EXP) * (r * r) + r + b.real(1.0))
    # 2^n goes straight into the exponent: the product is a normal number wherever it is chosen below
    product = b.let(b.from_bits(b.bits(p) + (b.bits(shifted) << b.integer(23))))
    # under `low` the result would be subnormal: such a product costs over a hundred cycles, and masked softmax is full of them
    low, high = b.real(-87.33654), b.real(88.72283)
    above = b.let(tirx.Select(x <= high, product, x * b.real(3e38)))  # infinity, or what was no number before
    return b.let(tirx.Select(x < low, b.real(0.0), above))


def log(b: Body, x: tirx.Expr) -> tirx.Expr:
    tiny = x < b.real(2.0**-126)  # subnormal: scale into the normal range
    scaled = b.let(tirx.Select(tiny, x * b.real(2.0**23), x))
    # mantissa in [sqrt(1/2), sqrt(2)), exponent to match
    bits = b.let(b.bits(scaled) - b.integer(0x3F3504F3))
    e = b.let((bits >> b.integer(23)).astype(b.dtype) - tirx.Select(tiny, b.real(23.0), b.real(0.0)))
    mantissa = b.from_bits(tirx.bitwise_and(bits, b.integer(0x007FFFFF)) + b.integer(0x3F3504F3))
    f = b.let(mantissa - b.real(1.0))
    square = b.let(f * f)
    tail = b.let(b.polynomial(f, LOG) * (f * square) + e * b.real(LN2_LOW))
    value = (tail - square * b.real(0.5)) + f + e * b.real(LN2_HIGH)
    infinity, nan = b.real(math.inf), b.real(math.nan)
    return b.let(
        tirx.Select(
            tirx.And(x > b.real(0.0), x < infinity),
            value,
            tirx.Select(x.equal(b.real(0.0)), b.real(-math.inf), tirx.Select(x.equal(infinity), infinity, nan)),
        )
    )


def tanh(b: Body, x: tirx.Expr) -> tirx.Expr:
    t = b.magnitude(x)
    square = b.let(x * x)
    small = b.let(b.polynomial(square, TANH) * (square * x) + x)
    large = b.let(b.real(1.0) - b.real(2.0) / (exp(b, b.let(t + t)) + b.real(1.0)))
    return b.let(tirx.Select(t < b.real(0.625), small, b.with_sign_of(large, x)))


def sigmoid(b: Body, x: tirx.Expr) -> tirx.Expr:
    return b.let(b.real(1.0) / (exp(b, b.let(b.real(0.0) - x)) + b.real(1.0)))


def erf(b: Body, x: tirx.Expr) -> tirx.Expr:
    """One polynomial: two, chosen between lane by lane as the C library does, take twice the time, which GELU behind a product shows."""
    low, high = b.real(-ERF_END), b.real(ERF_END)
    below = b.let(tirx.Select(x > high, high, x))
    bounded = b.let(tirx.Select(below < low, low, below))
    s = b.let(bounded * bounded * b.real(2.0 / ERF_END**2) - b.real(1.0))
    return b.let(b.polynomial(s, ERF) * bounded)


def rsqrt(b: Body, x: tirx.Expr) -> tirx.Expr:
    return b.real(1.0) / tirx.call_llvm_pure_intrin(b.dtype, "llvm.sqrt", x)


FUNCTIONS: dict[str, Callable[[Body, tirx.Expr], tirx.Expr]] = {
    "exp": exp, "log": log, "tanh": tanh, "sigmoid": sigmoid, "erf": erf, "rsqrt": rsqrt,
}  # fmt: skip
PREFIX = "stack."

for function in FUNCTIONS:  # TVM makes scalars of whatever it does not know to have vectors, which are erf and rsqrt here
    if tvm.ir.Op.get(f"tirx.{function}").get_attr("TVectorizable") is None:
        tvm.ir.register_op_attr(f"tirx.{function}", "TVectorizable", True)


def name_call(call: tvm.ir.Call) -> tirx.Expr:
    """`T.exp(x)` -> a call of the function "stack.exp", which no pass of TVM's touches."""
    name = getattr(call.op, "name", "").removeprefix("tirx.")
    if name not in FUNCTIONS or not str(call.ty).startswith("float32"):
        return call
    return tirx.call_pure_extern(str(call.ty), PREFIX + name, call.args[0])


def is_math(call: tvm.ir.Call) -> bool:
    """Whether `call` is one of those that `name_call` made."""
    return bool(getattr(call.op, "name", "") == "tirx.call_pure_extern" and call.args[0].value.startswith(PREFIX))


def has_math(node: tirx.Expr | tirx.Stmt) -> bool:
    found: list[bool] = []
    tvm_ffi.structural_walk(node, (tvm.ir.Call, lambda call: found.append(is_math(call))))
    return any(found)


def calls_math(function: tirx.PrimFunc) -> bool:
    """Whether there is one of `FUNCTIONS` in it, by its own name or by that of `name_call`."""
    return not FUNCTIONS.keys().isdisjoint(name.removeprefix(PREFIX) for name in calls(function))


def expand_call(call: tvm.ir.Call) -> tirx.Expr:
    if not is_math(call):
        return call
    body = Body(call)
    return body.done(FUNCTIONS[call.args[0].value.removeprefix(PREFIX)](body, body.let(call.args[1])))


@tirx.transform.prim_func_pass(opt_level=0, name="name_vector_math")
def name_vector_math(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    """Save the functions from `LowerIntrin`."""
    if not calls_math(function):
        return function
    return function.with_body(tvm_ffi.structural_map(function.body, (tvm.ir.Call, name_call)))


@tirx.transform.prim_func_pass(opt_level=0, name="expand_vector_math")
def expand_vector_math(function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    """Put the arithmetic in their place; last, since the analysers in other passes do not know vectors of `bool`."""
    if not calls_math(function):
        return function
    return function.with_body(tvm_ffi.structural_map(function.body, (tvm.ir.Call, expand_call)))
