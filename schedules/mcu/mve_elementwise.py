"""Element by element on cores with Helium: whole tensors of one shape, in int32 lanes.

    y[i] = int8(min(max(requantize(int32(a[i]) * 2^20 - 5, 123, -2) + ..., -128), 127))
    ->
    for i, four at a time: load and widen, the same operators on vectors, narrow and store

Vector instructions round halves up, TFLite Micro away from zero. The difference, below zero only, is put right before a shift, but not
where what is below zero is clipped afterwards.
"""

from collections.abc import Sequence
from math import prod

import tvm
from tvm import tirx
from tvm.ir import Call, TensorLoad
from tvm.s_tir import SBlock, Schedule

from schedules.machine import Machine
from schedules.mcu.kernel import Kernel, as_schedule
from schedules.space import Space

LANES = 4
LOAD = {"int8": "vldrbq{z}_s32", "int16": "vldrhq{z}_s32", "int32": "vldrwq{z}_s32"}
STORE = {"int8": "vstrbq{p}_s32", "int16": "vstrhq{p}_s32", "int32": "vstrwq{p}_s32"}
OF_VECTORS = {
    tirx.Add: "vaddq_s32({a}, {b})",
    tirx.Sub: "vsubq_s32({a}, {b})",
    tirx.Mul: "vmulq_s32({a}, {b})",
    tirx.Min: "vminq_s32({a}, {b})",
    tirx.Max: "vmaxq_s32({a}, {b})",
}
OF_NUMBER = {
    tirx.Add: "vaddq_n_s32({a}, {b})",
    tirx.Sub: "vsubq_n_s32({a}, {b})",
    tirx.Mul: "vmulq_n_s32({a}, {b})",
    tirx.Min: "vminq_s32({a}, vdupq_n_s32({b}))",
    tirx.Max: "vmaxq_s32({a}, vdupq_n_s32({b}))",
    tirx.RShift: "vshrq_n_s32({a}, {b})",  # by one at least: TVM removes a shift by nothing
}


def mve_elementwise(program: tirx.PrimFunc, machine: Machine) -> Space | None:
    """The rule: one block that computes each element of its output from the same elements of tensors of that shape."""
    if not machine.helium:
        return None
    sch = Schedule(program)
    blocks = sch.get_child_blocks(sch.get_sblock("root"))
    if len(blocks) != 1:
        return None
    block = sch.get(blocks[0])
    store, parameters = block.body, list(sch.mod["main"].params)
    if block.init is not None or not isinstance(store, tirx.BufferStore) or not store.buffer.same_as(parameters[-1]):
        return None
    element = Element(block, parameters)
    if not element.is_here(store.buffer, store.indices) or str(store.buffer.dtype) not in STORE:
        return None
    value = store.value
    narrowed = isinstance(value, tirx.Cast) and str(value.ty) == str(store.buffer.dtype)
    result = element.vector(value.value if narrowed else value)
    if result is None:
        return None
    kernel = Kernel(source(element, str(store.buffer.dtype), result), overlap=overlap(parameters))
    return Space("mve_elementwise", default={}, apply=lambda point: as_schedule(program, kernel))


def overlap(parameters: list[tirx.Buffer]) -> int | None:
    """In place, where what is written is no longer than what was read."""
    sizes = [tvm.DataType(str(buffer.dtype)).bits for buffer in (parameters[0], parameters[-1])]
    return 0 if sizes[0] == sizes[1] else None


class Element:
    """The C statements that compute four elements, `lines`, as an expression is walked."""

    def __init__(self, block: SBlock, parameters: list[tirx.Buffer]) -> None:
        self.axes, self.parameters = [axis.var for axis in block.iter_vars], parameters
        self.size = prod(int(extent) for extent in parameters[-1].shape)
        self.lines: list[str] = []
        self.loaded: dict[int, str] = {}

    def is_here(self, buffer: tirx.Buffer, indices: Sequence[tirx.Expr]) -> bool:
        """Whether an access is to the element that the axes name, in a tensor as large as the output."""
        if len(indices) != len(self.axes) or prod(int(extent) for extent in buffer.shape) != self.size:
            return False
        return all(index.same_as(axis) or int(extent) == 1 for index, extent, axis in zip(indices, buffer.shape, self.axes, strict=True))

    def new(self, value: str) -> str:
        self.lines.append(f"int32x4_t v{len(self.lines)} = {value};")
        return f"v{len(self.lines) - 1}"

    def vector(self, expr: tirx.Expr, floor: int | None = None) -> str | None:
        """The variable that holds `expr`, None where it has no vector form here; below `floor`, anything below it will do."""
        kind = type(expr)
        if kind is tirx.Cast and str(expr.ty) == "int32":
            expr, kind = expr.value, type(expr.value)
        if kind is TensorLoad:
            return self.load(expr)
        if kind is Call:
            return self.requantize(expr, floor)
        if str(expr.ty) != "int32" or kind not in OF_NUMBER:
            return None
        if isinstance(expr.b, tirx.IntImm):
            number = int(expr.b)
            below = {tirx.Max: number, tirx.Min: floor}
            if floor is not None:
                below |= {tirx.Add: floor - number, tirx.Sub: floor + number}
            a = self.vector(expr.a, below.get(kind))
            return self.new(OF_NUMBER[kind].format(a=a, b=number)) if a else None
        a, factor = self.vector(expr.a), scaled(expr)
        if factor is not None:
            b = self.vector(expr.b.a)
            return self.new(f"vmlaq_n_s32({a}, {b}, {factor})") if a and b else None
        b = self.vector(expr.b)
        return self.new(OF_VECTORS[kind].format(a=a, b=b)) if a and b and kind in OF_VECTORS else None

    def load(self, expr: TensorLoad) -> str | None:
        places = [place for place, buffer in enumerate(self.parameters[:-1]) if buffer.same_as(expr.source)]
        kind = str(expr.source.dtype)
        if not places or kind not in LOAD or not self.is_here(expr.source, expr.indices):
            return None
        if places[0] not in self.loaded:
            self.loaded[places[0]] = self.new(f"{LOAD[kind]}(x{places[0]} + i{{tail}})")
        return self.loaded[places[0]]

    def requantize(self, expr: Call, floor: int | None) -> str | None:
        numbers = [int(item) for item in expr.args[1:] if isinstance(item, tirx.IntImm)]
        if expr.op.name != "tirx.stack_requantize" or len(numbers) + 1 < len(expr.args):
            return None
        value = self.vector(expr.args[0])
        if value is None:
            return None
        multiplier, shift = numbers
        if shift > 0:
            value = self.new(f"vshlq_n_s32({value}, {shift})")
        value = self.new(f"vqrdmulhq_n_s32({value}, {multiplier})")
        if shift < 0 and (floor is None or floor < 0):
            value = self.new(f"vaddq_s32({value}, vshrq_n_s32({value}, 31))")
        return self.new(f"vrshrq_n_s32({value}, {-shift})") if shift < 0 else value


def scaled(expr: tirx.Add) -> int | None:
    """n of a + b * n."""
    product = expr.b
    return int(product.b) if isinstance(expr, tirx.Add) and isinstance(product, tirx.Mul) and isinstance(product.b, tirx.IntImm) else None


def source(element: Element, kind: str, result: str) -> str:
    """The kernel that stores `result`."""
    inputs = [f"const {buffer.dtype}_t *x{place}" for place, buffer in enumerate(element.parameters[:-1])]
    whole, rest = divmod(element.size, LANES)
    body = [line.format(z="", tail="") for line in element.lines] + [f"{STORE[kind].format(p='')}(y + i, {result});"]
    last = [line.format(z="_z", tail=", tail") for line in element.lines] + [f"{STORE[kind].format(p='_p')}(y + i, {result}, tail);"]
    lines = [f"for (int32_t i = 0; i < {whole * LANES}; i += {LANES}) {{", *("  " + line for line in body), "}"] if whole else []
    if rest:
        lines += [f"const mve_pred16_t tail = vctp32q({rest});", f"const int32_t i = {whole * LANES};", *last]
    head = f"static void KERNEL({', '.join(inputs)}, {kind}_t *y) {{"
    return "\n".join(["#include <arm_mve.h>", head, *("  " + line for line in lines), "}"])
