"""C's types and operators, as far as printed programs need them.

A TensorIR type is a C type in memory (`int8_t`) and another in arithmetic (`int`, here i32: C computes nothing narrower).
"""

from dataclasses import dataclass

POSTFIX, UNARY, MUL, ADD, SHIFT, RELATION, EQUALITY, BIT_AND, BIT_XOR, BIT_OR, AND, OR, CONDITION = range(15, 2, -1)

DECLARED = {
    "bool": "uint8_t", "int8": "int8_t", "int16": "int16_t", "int32": "int32_t", "int64": "int64_t",
    "uint8": "uint8_t", "uint16": "uint16_t", "uint32": "uint32_t", "uint64": "uint64_t", "float32": "float", "float64": "double",
}  # fmt: skip
COMPUTED = {
    "bool": "i32", "int8": "i32", "int16": "i32", "int32": "i32", "int64": "i64",
    "uint8": "i32", "uint16": "i32", "uint32": "u32", "uint64": "u64", "float32": "f32", "float64": "f64",
}  # fmt: skip
NAMES = {"i32": "int32_t", "i64": "int64_t", "u32": "uint32_t", "u64": "uint64_t", "f32": "float", "f64": "double"}
RANK = ("i32", "u32", "i64", "u64", "f32", "f64")  # of two operands, C computes in the type that comes later here
BYTES = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int64": 8, "uint64": 8, "float64": 8}  # the others: 4


@dataclass(frozen=True)
class Text:
    """An expression in C: how tightly it binds, and the type that C computes it in."""

    text: str
    binds: int
    kind: str

    def inside(self, level: int) -> str:
        """As an operand of an operator that takes what binds at least as tightly as `level`."""
        return self.text if self.binds >= level else f"({self.text})"


def limits(dtype: str) -> tuple[int, int]:
    """The smallest and the largest number of an integer type, or of a kind of arithmetic."""
    if dtype == "bool":
        return 0, 1
    bits = int(dtype.lstrip("uint"))
    return (0, (1 << bits) - 1) if dtype[0] == "u" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def fits(bounds: tuple[int, int], dtype: str) -> bool:
    low, high = limits(dtype)
    return low <= bounds[0] and bounds[1] <= high


def itemsize(dtype: str) -> int:
    return BYTES.get(dtype, 4)


def integral(dtype: str) -> bool:
    return dtype in DECLARED and not dtype.startswith("float")


def common(a: str, b: str) -> str:
    """The kind in which C computes two operands."""
    return max(a, b, key=RANK.index)


def cast(value: Text, name: str, kind: str) -> Text:
    return Text(f"({name}){value.inside(UNARY)}", UNARY, kind)


def convert(value: Text, kind: str) -> Text:
    """`value`, computed in `kind`."""
    return value if value.kind == kind else cast(value, NAMES[kind], kind)
