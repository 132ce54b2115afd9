"""One quantised operator: what lies between the dequantize of its operands and the quantize of its result.

    quantize(relu(add(conv2d(dequantize(x), dequantize(w)), dequantize(b))))
      ->  Island(call=conv2d, inputs=[x, w], bias=b, low=zero point of the output, high=127, ...)

An activation becomes limits on the result's integers, as in TFLite. Where only an activation stands between both, `call` is the dequantize.
"""

from dataclasses import dataclass, replace

import numpy as np
from tvm import relax

from relay_passes.integers.fixed_point import Array, quantize_value
from relay_passes.integers.programs import Programs
from relay_passes.rewrite import Graph, array, constant, dtype, is_tensor, number, op_name, shape

BIASED = frozenset({"relax.nn.conv2d", "relax.nn.conv2d_transpose", "relax.matmul"})


@dataclass(frozen=True)
class Quantization:
    """real = (integer - zero) * scale, for the whole tensor or for each index of `axis`."""

    scale: Array
    zero: Array
    axis: int
    dtype: str

    @property
    def uniform(self) -> bool:
        """Whether one scale and one zero point serve the whole tensor."""
        return self.scale.size == 1 and self.zero.size == 1

    @property
    def one_scale(self) -> float:
        return float(self.scale.flat[0])

    @property
    def one_zero(self) -> int:
        return int(self.zero.flat[0])

    def same(self, other: "Quantization") -> bool:
        """Whether integers mean the same in both."""
        alike = self.uniform and other.uniform and self.dtype == other.dtype
        return alike and (self.one_scale, self.one_zero) == (other.one_scale, other.one_zero)


@dataclass(frozen=True)
class Operand(Quantization):
    """The integers of one operand, and what they stand for."""

    value: relax.Expr

    @property
    def array(self) -> Array | None:
        """The integers of a constant operand."""
        return array(self.value)


@dataclass(frozen=True)
class Island:
    """One operator over integers; `low` and `high` are limits on those of its result, and `activated` whether an activation set them."""

    call: relax.Call
    inputs: list[Operand]
    bias: Operand | None
    output: Quantization
    low: int
    high: int
    activated: bool
    shape: tuple[int, ...]
    programs: Programs
    graph: Graph

    @property
    def uniform(self) -> bool:
        """Whether no operand is quantised per channel, nor the result."""
        return self.output.uniform and all(operand.uniform for operand in self.inputs)


def operand(expr: relax.Expr, graph: Graph) -> Operand | None:
    """What a dequantize reads. Constants are followed through transposes and reshapes, which exporters leave on weights."""
    call = graph.source(expr)
    name = op_name(call)
    if name == "relax.dequantize":
        scale, zero = array(call.args[1]), array(call.args[2])
        if scale is None or zero is None:
            return None
        rank = len(shape(call))
        axis = int(call.attrs.axis) % rank if rank else 0
        return Operand(scale, zero.astype("int32"), axis, str(call.args[0].ty.dtype.dtype), call.args[0])
    if name not in ("relax.permute_dims", "relax.reshape"):
        return None
    inner = operand(call.args[0], graph)
    if inner is None or inner.array is None:
        return None
    if name == "relax.reshape":
        if not inner.uniform and inner.array.size != inner.scale.size:
            return None
        axis = shape(call).index(inner.scale.size) if not inner.uniform else 0
        return Operand(inner.scale, inner.zero, axis, inner.dtype, constant(inner.array.reshape(shape(call))))
    rank = inner.array.ndim
    order = [int(axis) % rank for axis in call.attrs.axes] if call.attrs.axes is not None else list(range(rank))[::-1]
    return Operand(inner.scale, inner.zero, order.index(inner.axis), inner.dtype, constant(inner.array.transpose(order)))


def scaled_operand(expr: relax.Expr, graph: Graph) -> Operand | None:
    """What a dequantize reads, also where a positive number multiplies it, as the beta of a softmax does."""
    call = graph.source(expr)
    if op_name(call) != "relax.multiply":
        return operand(expr, graph)
    inner, factor = operand(call.args[0], graph), number(call.args[1])
    if inner is None or factor is None or factor <= 0:
        return None
    return replace(inner, scale=inner.scale.astype("float64") * factor)


def limits(call: relax.Expr, output: Quantization, graph: Graph) -> tuple[int, int, relax.Expr]:
    """The limits that activations set on the integers of a result, and the call whose result they limit."""
    info = np.iinfo(output.dtype)
    low, high = int(info.min), int(info.max)
    while True:
        name = op_name(call)
        if name == "relax.nn.relu":
            bounds = (0.0, np.inf)
        elif name == "relax.nn.relu6":
            bounds = (0.0, 6.0)
        elif name == "relax.clip":
            bounds = (float(call.args[1].value), float(call.args[2].value))
        else:
            return low, high, call
        if np.isfinite(bounds[0]):
            low = max(low, quantize_value(bounds[0], output.one_scale, output.one_zero))
        if np.isfinite(bounds[1]):
            high = min(high, quantize_value(bounds[1], output.one_scale, output.one_zero))
        call = graph.source(call.args[0])


def match(call: relax.Call, graph: Graph, programs: Programs) -> Island | None:
    """The island that ends in this quantize. None where it does not begin with dequantizes, or is quantised in ways that we do not know.

    `quantize` has no int32: astype(round(x / scale) + zero) is one as well.
    """
    found = quantized(call, graph)
    if found is None or not is_tensor(call):
        return None
    real, output = found
    low, high, core = limits(graph.source(real), output, graph)
    if not isinstance(core, relax.Call):
        return None
    activated = core is not graph.source(real)
    bias = None
    if op_name(core) == "relax.add":
        sources = [graph.source(argument) for argument in core.args]
        for position, source in enumerate(sources):
            if op_name(source) in BIASED:
                core, bias = source, bias_operand(core.args[1 - position], source, graph)
                if bias is None:
                    return None
                break
    if op_name(core) == "relax.dequantize":
        inputs = [operand(core, graph)]
    elif op_name(core) == "relax.nn.softmax":
        inputs = [scaled_operand(core.args[0], graph)]
    else:
        inputs = [operand(item, graph) for item in tensors(core, graph)]
    known = [item for item in inputs if item is not None]
    if len(known) != len(inputs) or not known:
        return None
    return Island(core, known, bias, output, low, high, activated, shape(call), programs, graph)


def quantized(call: relax.Call, graph: Graph) -> tuple[relax.Expr, Quantization] | None:
    """What a quantize with one scale reads, and what its integers stand for."""
    if op_name(call) == "relax.quantize":
        real, scale, zero, axis = call.args[0], array(call.args[1]), array(call.args[2]), int(call.attrs.axis)
    else:
        moved = graph.source(call.args[0])
        rounded = graph.source(moved.args[0]) if op_name(moved) == "relax.add" else moved
        ratio = graph.source(rounded.args[0]) if op_name(rounded) == "relax.round" else rounded
        if [op_name(item) for item in (moved, rounded, ratio)] != ["relax.add", "relax.round", "relax.divide"] or dtype(call) != "int32":
            return None
        real, scale, zero, axis = ratio.args[0], array(ratio.args[1]), array(moved.args[1]), 0
    if scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    return real, Quantization(scale, zero.astype("int32"), axis, dtype(call))


def tensors(call: relax.Call, graph: Graph) -> list[relax.Expr]:
    """The tensors that a call reads, without scalars, shapes and other constants that are no tensors."""
    found: list[relax.Expr] = []
    for argument in call.args:
        source = graph.source(argument)
        if isinstance(source, relax.Tuple):
            found.extend(source.fields)
        elif isinstance(argument.ty, relax.TensorType):
            found.append(argument)
    return found


def bias_operand(expr: relax.Expr, of: relax.Call, graph: Graph) -> Operand | None:
    """A bias as int32 of scale input * weight. A float constant, which ONNX models may have, is quantised so; any other must be already."""
    x, w = (operand(item, graph) for item in list(of.args)[:2])
    if x is None or w is None or not x.uniform:
        return None
    scale = (x.scale.astype("float64") * w.scale.astype("float64")).reshape(-1)
    values = array(expr)
    if values is not None and values.dtype == np.float32:
        flat = values.reshape(-1).astype("float64")
        whole = np.clip(np.rint(flat / scale), -(1 << 31), (1 << 31) - 1)
        return Operand(scale, np.zeros(1, "int32"), 0, "int32", constant(whole.astype("int32").reshape(values.shape)))
    given = operand(expr, graph)
    if given is None or given.array is None or given.array.dtype != np.int32 or given.zero.any():
        return None
    return given if np.allclose(given.scale.reshape(-1), scale, rtol=1e-3, atol=0.0) else None
