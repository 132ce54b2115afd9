"""What leads to a quantize: the scale of the result goes into the operands', and the operator computes in units of the result.

    quantize(relu(conv2d(...) + b), scale, zero)              ->   quantize(relu(a layer in units of the result), 1, zero)
    quantize(dequantize(a, s) + dequantize(b, t), u, zero)    ->   quantize(a sum in units of the result, zero added, 1, 0)
    quantize(dequantize(a, s) - dequantize(b, t), u, zero)    ->   quantize(dequantize(a, s / u) - dequantize(b, t / u), 1, zero)
    quantize(mean(dequantize(a, s)), u, zero)                 ->   quantize(sum(dequantize(a, 1)) * (s / (u * count)), 1, zero)
    quantize(avg_pool2d(dequantize(a, s)), u, zero)           ->   quantize(a program over bytes, zero added, 1, 0)
    quantize(softmax(dequantize(a, s)), u, zero)              ->   quantize(a program over bytes, 1, zero)
    quantize(concat(a, b))                                    ->   concat(quantize(a), quantize(b))
    quantize(relu(a), u, 0)                                   ->   quantize(a, u, 0), of anything else

So ONNX Runtime computes: one factor for each operand, nothing divided afterwards.
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np
from tvm import relax

from relay_passes.bytes.averages import windows_average
from relay_passes.bytes.layers import activation, bias_of, emit, parse
from relay_passes.bytes.pairs import ADD, MULTIPLY, Pair
from relay_passes.bytes.products import product
from relay_passes.bytes.softmax import softmax
from relay_passes.bytes.sums import is_real_sum
from relay_passes.integers.island import Operand, Quantization, operand, quantized
from relay_passes.integers.move_dequantize import zero_dtype
from relay_passes.integers.programs import Programs
from relay_passes.rewrite import Graph, Rule, constant, is_tensor, op_name, rewrites, shape

Bounds = tuple[float, float]


def activations(real: relax.Expr, graph: Graph) -> tuple[list[Bounds], relax.Expr]:
    """The limits that activations set, the last first, and what they limit."""
    found: list[Bounds] = []
    call = graph.source(real)
    while True:
        name = op_name(call)
        if name == "relax.nn.relu":
            found.append((0.0, np.inf))
        elif name == "relax.nn.relu6":
            found.append((0.0, 6.0))
        elif name == "relax.clip":
            found.append((float(call.args[1].value), float(call.args[2].value)))
        else:
            return found, call
        call = graph.source(call.args[0])


def limited(value: relax.Expr, bounds: list[Bounds], output: Quantization) -> relax.Expr:
    """`value`, in units of the result, within the limits that its bytes do not set by themselves."""
    info = np.iinfo(output.dtype)
    for low, high in reversed(bounds):
        least, most = low / output.one_scale, high / output.one_scale
        if least > info.min - output.one_zero:
            value = relax.op.nn.relu(value) if least == 0 else relax.op.maximum(value, relax.const(least, "float32"))
        if most < info.max - output.one_zero:
            value = relax.op.minimum(value, relax.const(most, "float32"))
    return value


def set_limits(bounds: list[Bounds], output: Quantization) -> bool:
    """Whether any of the bounds lies within what the bytes hold."""
    info, unit, zero = np.iinfo(output.dtype), output.one_scale, output.one_zero
    return any(low / unit > info.min - zero or high / unit < info.max - zero for low, high in bounds)


def without_limit(call: relax.Call, graph: Graph) -> relax.Call | None:
    """The quantize of what the activation before it limits, where nothing else reads that: its bytes set the limit by themselves."""
    if not graph.once(call.args[0]):
        return None
    return relax.Call(call.op, [graph.source(call.args[0]).args[0], *list(call.args)[1:]], call.attrs)


def in_units(x: Operand, factor: np.float32) -> relax.Expr:
    """What `x` stands for, with another scale."""
    scale = constant(np.asarray(factor, "float32"))
    return relax.op.dequantize(x.value, scale, constant(x.zero.reshape(()).astype(zero_dtype(x))), axis=-1, out_dtype="float32")


def bytes_of(value: relax.Expr, output: Quantization) -> relax.Expr:
    zero = constant(np.asarray(output.one_zero, output.dtype))
    return relax.op.quantize(value, relax.const(1.0, "float32"), zero, axis=-1, out_dtype=output.dtype)


def layer(core: relax.Call, output: Quantization, graph: Graph, programs: Programs) -> relax.Expr | None:
    """A convolution or dense layer, perhaps with a bias behind it."""
    found, bias = parse(core, graph), None
    if found is None and op_name(core) == "relax.add":
        for position in (0, 1):
            found = parse(graph.source(core.args[position]), graph)
            if found is not None:
                bias = bias_of(core.args[1 - position], found, graph)
                break
        if bias is None:
            return None
    return emit(found, programs, bias, output.one_scale) if found is not None else None


def scaled(core: relax.Call, output: Quantization, graph: Graph, programs: Programs) -> relax.Expr | None:
    """An operator that is linear in each operand, its operands scaled."""
    name, unit = op_name(core), np.float32(output.one_scale)
    if name == "relax.dequantize":
        x = operand(core, graph)
        return in_units(x, np.float32(x.one_scale) / unit) if x is not None and x.uniform and x.array is None else None
    if name == "relax.mean":
        x = operand(core.args[0], graph)
        return mean(core, x, unit) if x is not None and x.uniform and x.array is None else None
    if name == "relax.nn.softmax":
        x = activation(core.args[0], graph)
        several = x is not None and len(shape(core)) > 1
        return softmax(x, unit, programs, int(core.attrs.axis)) if x is not None and several else None
    found = pair_of(core, output, graph)
    if found is None:
        return None
    factors = (found.factor, np.float32(1)) if name == MULTIPLY else found.ratios
    return relax.Call(core.op, [in_units(x, factor) for x, factor in zip((found.a, found.b), factors, strict=True)], core.attrs)


def mean(core: relax.Call, x: Operand, unit: np.float32) -> relax.Expr:
    """The sum of the bytes less their zero point, which float32 holds exactly, times one factor."""
    axes = [int(axis) for axis in core.attrs.axis] if core.attrs.axis is not None else None
    count = prod(shape(x.value)) // max(prod(shape(core)), 1)
    total = relax.op.sum(in_units(x, np.float32(1)), axes, keepdims=bool(core.attrs.keepdims))
    return relax.op.multiply(total, constant(np.asarray(np.float32(x.one_scale) / (unit * np.float32(count)), "float32")))


def pair_of(core: relax.Call, output: Quantization, graph: Graph) -> Pair | None:
    """Two operands of one scale each, at least one of them computed at run time."""
    if op_name(core) not in (ADD, MULTIPLY, "relax.subtract") or is_real_sum(core):
        return None
    a, b = (operand(argument, graph) for argument in core.args)
    if a is None or b is None or not a.uniform or not b.uniform or (a.array is not None and b.array is not None):
        return None
    return Pair(op_name(core), a, b, output)


def result_rule(programs: Programs, half: int) -> Rule:
    """`half` is how much more the bytes are than those of the network: 128 where they had a sign."""

    @rewrites("relax.quantize")
    def in_units_of_the_result(call: relax.Call, graph: Graph) -> relax.Expr | None:
        found = quantized(call, graph)
        if found is None or not is_tensor(call):
            return None
        real, output = found
        if output.dtype != "uint8" or output.one_scale == 1.0:
            return None
        bounds, core = activations(real, graph)
        if not isinstance(core, relax.Call):
            return None
        pair = pair_of(core, output, graph)
        if pair is not None and pair.name in (ADD, MULTIPLY) and not set_limits(bounds, output):
            return bytes_of(replace(pair, half=half).operators(), replace(output, zero=np.asarray(half, "int32")))
        average = windows_average(core, output, half, graph, programs) if not set_limits(bounds, output) else None
        if average is not None:
            return bytes_of(average, replace(output, zero=np.asarray(half, "int32")))
        value = layer(core, output, graph, programs)
        if value is None:
            value = product(core, graph, programs, output.one_scale)
        if value is None:
            value = scaled(core, output, graph, programs)
        if value is None:
            return without_limit(call, graph) if bounds and not set_limits(bounds, output) else None
        return bytes_of(limited(value, bounds, output), output)

    return in_units_of_the_result


@rewrites("relax.quantize")
def same_bytes(call: relax.Call, graph: Graph) -> relax.Expr | None:
    """A quantize of what has that scale and zero point already."""
    found, x = quantized(call, graph), operand(call.args[0], graph)
    return x.value if found is not None and x is not None and x.same(found[1]) else None


@rewrites("relax.quantize")
def before_concat(call: relax.Call, graph: Graph) -> relax.Expr | None:
    source = graph.source(call.args[0])
    if op_name(source) != "relax.concat" or quantized(call, graph) is None or not isinstance(graph.source(source.args[0]), relax.Tuple):
        return None
    if not graph.once(call.args[0]):
        return None
    parts = [relax.Call(call.op, [part, *list(call.args)[1:]], call.attrs) for part in graph.source(source.args[0]).fields]
    return relax.Call(source.op, [relax.Tuple(parts)], source.attrs)


def layer_rule(programs: Programs) -> Rule:
    @rewrites("relax.nn.conv2d", "relax.matmul")
    def sums_of_bytes(call: relax.Call, graph: Graph) -> relax.Expr | None:
        """Where no quantize follows, the result is float32."""
        found = parse(call, graph)
        return emit(found, programs) if found is not None else product(call, graph, programs)

    return sums_of_bytes


EARLY: list[Rule] = [same_bytes, before_concat]
Make = Callable[[Programs], Rule]
