"""A function of one tensor of bytes, element by element, as its 256 results.

    quantize(erf(dequantize(x)))                                    ->   table[x]
    h = dequantize(quantize(erf(dequantize(x))));  quantize(h * dequantize(x))   ->   table[x]

The second is how exporters of quantised networks write GELU or swish: each step rounded to bytes, which the table does too. Only functions
that cost more than the look-up become tables.
"""

import numpy as np
from tvm import relax, te, tirx

from relay_passes.bytes.pairs import ADD, MULTIPLY, Pair
from relay_passes.elementwise import BINARY, UNARY
from relay_passes.fold_constants import TABLE
from relay_passes.integers.island import Operand, Quantization, operand, quantized
from relay_passes.integers.programs import Programs, placeholder
from relay_passes.rewrite import Graph, Rule, array, constant, is_tensor, op_name, rewrites, shape

Array = np.ndarray
CHOICES = frozenset({"relax.where"})
COSTLY = frozenset(
    {
        "relax.cos", "relax.divide", "relax.erf", "relax.exp", "relax.log", "relax.nn.gelu", "relax.nn.silu", "relax.power", "relax.rsqrt",
        "relax.sigmoid", "relax.sin", "relax.sqrt", "relax.tanh",
    }
)  # fmt: skip
NAME = "table"


class Curve:
    """What a quantize reads, followed back to the one tensor of bytes that it depends on."""

    def __init__(self, graph: Graph, tables: frozenset[str], half: int) -> None:
        self.graph, self.tables, self.half = graph, tables, half
        self.leaf: relax.Expr | None = None
        self.costly = False

    def values(self, expr: relax.Expr) -> Array | None:
        """float32 [256], or a number; None where `expr` is something else than a function of one tensor."""
        known = array(expr)
        if known is not None:
            return known.reshape(()) if known.size == 1 else None
        call = self.graph.source(expr)
        name = op_name(call)
        if name == "relax.dequantize":
            return self.real(operand(expr, self.graph))
        if name not in UNARY | BINARY | CHOICES or name not in TABLE:
            return None
        self.costly |= name in COSTLY
        found = [self.values(argument) for argument in call.args if isinstance(argument.ty, relax.TensorType)]
        values = [value for value in found if value is not None]
        if len(values) != len(found):
            return None
        with np.errstate(all="ignore"):
            return TABLE[name](call, values)

    def real(self, x: Operand | None) -> Array | None:
        """What a dequantize gives for each value of the leaf."""
        if x is None or not x.uniform:
            return None
        if x.array is not None:
            whole: Array | None = x.array.reshape(()) if x.array.size == 1 else None
        else:
            whole = self.whole(x.value)
        return None if whole is None else (whole.astype("int32") - x.one_zero).astype("float32") * np.float32(x.one_scale)

    def whole(self, value: relax.Expr) -> Array | None:
        """The bytes of a tensor for each value of the leaf, which is as far back as all of them go."""
        call = self.graph.source(value)
        if isinstance(call, relax.Call) and op_name(call) == "relax.call_tir" and call.args[0].name_hint in self.tables:
            inner, table = call.args[1].fields
            entries = array(table)
            self.costly = True
            return entries if entries is not None and self.reaches(inner) else None
        if op_name(call) == "relax.quantize" and (found := quantized(call, self.graph)) is not None and found[1].dtype == "uint8":
            before = self.leaf
            exact = self.pair(found[0], found[1])
            if exact is not None:
                return exact
            values = self.values(found[0])
            if values is not None and values.shape == (256,):
                return rounded(values, found[1].one_scale, found[1].one_zero)
            self.leaf = before
        if str(value.ty.dtype.dtype) != "uint8":
            return None
        return np.arange(256) if self.reaches(value) else None

    def pair(self, expr: relax.Expr, output: Quantization) -> Array | None:
        """The bytes of a sum or product of two quantised operands for each value of the leaf, as ONNX Runtime has them."""
        call, before = self.graph.source(expr), self.leaf
        if op_name(call) not in (ADD, MULTIPLY):
            return None
        a, b = (operand(argument, self.graph) for argument in call.args)
        if a is None or b is None or not a.uniform or not b.uniform:
            return None
        first, second = self.integers(a), self.integers(b)
        if first is None or second is None:
            self.leaf = before
            return None
        values = Pair(op_name(call), a, b, output, self.half).values(first, second)
        return np.clip(values, 0, 255).astype("uint8") if values.shape == (256,) else None

    def integers(self, x: Operand) -> Array | None:
        """Those of an operand for each value of the leaf; one where it is a constant."""
        if x.array is None:
            return self.whole(x.value)
        one: Array | None = x.array.reshape(()) if x.array.size == 1 else None
        return one

    def reaches(self, value: relax.Expr) -> bool:
        if self.leaf is not None:
            return bool(self.leaf.same_as(value))
        self.leaf = value
        return True


def rounded(values: Array, scale: float, zero: int) -> Array:
    whole = np.rint(values.astype("float32") / np.float32(scale)) + zero
    result: Array = np.clip(np.nan_to_num(whole, posinf=1e9, neginf=-1e9), 0, 255).astype("uint8")
    return result


def table_rule(programs: Programs, half: int) -> Rule:
    names: set[str] = set()

    @rewrites("relax.quantize")
    def look_up(call: relax.Call, graph: Graph) -> relax.Expr | None:
        found = quantized(call, graph)
        if found is None or not is_tensor(call) or found[1].dtype != "uint8":
            return None
        curve = Curve(graph, frozenset(names), half)
        table = curve.pair(found[0], found[1])
        if table is None:
            values = curve.values(found[0])
            table = rounded(values, found[1].one_scale, found[1].one_zero) if values is not None and values.shape == (256,) else None
        if table is None or curve.leaf is None or not curve.costly or shape(curve.leaf) != shape(call):
            return None
        result = lookup(curve.leaf, table, programs)
        names.add(result.args[0].name_hint)
        return result

    return look_up


def lookup(value: relax.Expr, table: Array, programs: Programs) -> relax.Call:
    x, entries = placeholder(value, "x"), te.placeholder((256,), "uint8", name=NAME)

    def result(*index: tirx.Var) -> tirx.Expr:
        return entries[x[index].astype("int32")]

    return programs.call(NAME, [x, entries, te.compute(x.shape, result, name=NAME)], [value, constant(table)])
