"""Random small image networks as ONNX models: every operator that a layout, a fusion or a rule could get wrong, in any order.

    random_network(7)     the same model for the same seed, in every process

`tests/compare_networks.py` compares them with ONNX Runtime.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

T = TypeVar("T")
CHANNELS = (1, 2, 3, 4, 8, 9, 12, 16, 16, 17, 24, 32, 32, 33, 40, 48, 64)
KERNELS = ((1, 1), (1, 1), (3, 3), (3, 3), (3, 3), (5, 5), (2, 2), (1, 3), (3, 1), (1, 7), (7, 1))
STRIDES = ((1, 1), (1, 1), (1, 1), (2, 2), (2, 2), (3, 3), (1, 2), (2, 1), (1, 3))
LARGEST = 40000  # elements a tensor
OPSET = 18


class Writer:
    """A graph that grows; `live` are the four-dimensional tensors so far, with their shapes."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        n, c = self.pick((1, 1, 1, 2, 4)), self.pick((1, 3, 3, 8, 16, 20, 32))
        h, w = self.pick((1, 5, 7, 8, 12, 13)), self.pick((1, 4, 7, 8, 13, 17))
        self.input = (n, c, h, w)
        self.live: dict[str, tuple[int, ...]] = {"x": self.input}

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def constant(self, array: np.ndarray | Sequence[int] | float, dtype: str = "float32") -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def random(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        return self.constant(self.rng.uniform(low, high, shape))

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        names = [f"t{len(self.nodes)}" + (f"_{k}" if k else "") for k in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[0]

    def value(self) -> str:
        """A live tensor, more often a recent one."""
        names = list(self.live)
        return names[-1] if self.chance(0.6) else self.pick(names)

    def infer(self, name: str) -> tuple[int, ...]:
        return shapes(self.model([name]))[name]

    def keep(self, name: str) -> None:
        shape = self.infer(name)
        if 0 < np.prod(shape) <= LARGEST and len(shape) == 4:
            self.live[name] = shape
        else:
            del self.nodes[-1]

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.input)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    return {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in [*graph.value_info, *graph.output]}


def window(g: Writer, shape: tuple[int, ...], dilated: bool) -> dict[str, Any] | None:
    """Kernel, strides, padding (and dilations) that fit the image; None where these do not."""
    kernel, strides = g.pick(KERNELS), g.pick(STRIDES)
    dilations = g.pick(((1, 1), (1, 1), (1, 1), (2, 2), (1, 2))) if dilated else (1, 1)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = [r // 2 for r in reach] * 2 if g.chance(0.5) else [int(g.rng.integers(0, reach[k % 2])) for k in range(4)]
    pads = [min(pad, 3) for pad in pads] if dilated else [min(pad, k // 2) for pad, k in zip(pads, [*kernel, *kernel], strict=True)]
    if any(shape[2 + k] + pads[k] + pads[2 + k] < reach[k] for k in range(2)):
        return None
    found = {"kernel_shape": list(kernel), "strides": list(strides), "pads": pads}
    return found | {"dilations": list(dilations)} if dilated else found


def conv(g: Writer, data: str | None = None) -> str | None:
    data = data or g.value()
    shape = g.live[data]
    channels = shape[1]
    attributes = window(g, shape, dilated=True)
    if attributes is None:
        return None
    groups = 1
    if g.chance(0.25):
        groups = channels
    elif g.chance(0.15):
        groups = g.pick([d for d in range(1, channels + 1) if channels % d == 0])
    filters = groups * g.pick((1, 1, 1, 2)) if groups == channels else g.pick(CHANNELS)
    filters = -(-filters // groups) * groups
    kernel = attributes["kernel_shape"]
    fan_in = channels // groups * kernel[0] * kernel[1]
    weight = g.random(filters, channels // groups, *kernel, low=-1.7 * fan_in**-0.5, high=1.7 * fan_in**-0.5)
    bias = [g.random(filters)] if g.chance(0.6) else []
    result = g.node("Conv", data, weight, *bias, group=groups, **attributes)
    if g.chance(0.15):
        spread = [g.random(filters, low=0.5, high=1.5) for _ in range(2)]
        result = g.node("BatchNormalization", result, spread[0], g.random(filters), g.random(filters), spread[1])
    return result


def conv_transpose(g: Writer) -> str:
    data = g.value()
    channels, filters = g.live[data][1], g.pick((3, 8, 16, 20))
    weight = g.random(channels, filters, 2, 2, low=-(channels**-0.5), high=channels**-0.5)
    return g.node("ConvTranspose", data, weight, strides=[2, 2])


UNARY: dict[str, dict[str, Any]] = {
    "Relu": {}, "Sigmoid": {}, "Tanh": {}, "HardSwish": {}, "HardSigmoid": {}, "Elu": {}, "Softplus": {}, "Abs": {}, "Neg": {}, "Erf": {},
    "LeakyRelu": {"alpha": 0.1}, "Softsign": {}, "Ceil": {}, "Cos": {}, "Identity": {},
}  # fmt: skip


def activation(g: Writer) -> str:
    kind = g.pick(["Relu"] * 6 + [name for name in UNARY if name != "Ceil"])
    return g.node(kind, g.value(), **UNARY[kind])


def clipped(g: Writer) -> str:
    low, high = g.pick(((0.0, 6.0), (-1.0, 1.0), (0.25, 0.75), (0.5, 3.0)))
    return g.node("Clip", g.value(), g.constant(low), g.constant(high))


def swish(g: Writer) -> str:
    x = g.value()
    return g.node("Mul", x, g.node("Sigmoid", x))


def not_finite_at_zero(g: Writer) -> str:
    """Functions that make no number of the zeros in padded channels."""
    x = g.value()
    positive = (
        g.node("Add", g.node("Abs", x), g.constant(0.1))
        if g.chance(0.5)
        else g.node("Exp", g.node("Clip", x, g.constant(-2.0), g.constant(2.0)))
    )
    kind = g.pick(("Log", "Sqrt", "Reciprocal", "Exp", "Pow", "Div", "Rsqrt"))
    if kind == "Pow":
        return g.node("Pow", positive, g.constant(g.pick((0.5, -1.0, 2.0, 3.0, 0.3))))
    if kind == "Div":
        return g.node("Div", x, positive) if g.chance(0.5) else g.node("Div", g.constant(1.5), positive)
    if kind == "Rsqrt":
        return g.node("Reciprocal", g.node("Sqrt", positive))
    if kind == "Exp":
        return g.node("Exp", g.node("Neg", positive))
    return g.node(kind, positive)


def prelu(g: Writer) -> str:
    x = g.value()
    return g.node("PRelu", x, g.random(*g.pick(((g.live[x][1], 1, 1), (1,), (1, 1, 1)))))


def with_constant(g: Writer) -> str:
    x = g.value()
    n, c, h, w = g.live[x]
    forms = (
        (1, c, 1, 1),
        (c, 1, 1),
        (),
        (1,),
        (1, 1, h, w),
        (w,),
        (h, w),
        (1, c, h, w),
        (n, c, 1, 1),
        (n, 1, 1, 1),
        (1, 1, 1, 1),
        (1, c, h, 1),
        (c, 1, w),
    )
    kind = g.pick(("Add", "Add", "Mul", "Mul", "Sub", "Div", "Max", "Min"))
    other = g.random(*g.pick(forms), low=0.5, high=2.0) if kind == "Div" else g.random(*g.pick(forms))
    if kind == "Sub" and g.chance(0.4):
        return g.node("Sub", other, x)
    return g.node(kind, x, other)


def with_tensor(g: Writer) -> str | None:
    x = g.value()
    shape = g.live[x]
    others = [name for name, other in g.live.items() if name != x and all(a == b or 1 in (a, b) for a, b in zip(shape, other, strict=True))]
    if not others:
        return None
    pair = [x, g.pick(others)]
    if g.chance(0.5):
        pair.reverse()
    return g.node(g.pick(("Add", "Add", "Mul", "Sub", "Max", "Min")), *pair)


def residual(g: Writer) -> str | None:
    x = g.value()
    c = g.live[x][1]
    weight = g.random(c, c, 3, 3, low=-0.5 * c**-0.5, high=0.5 * c**-0.5)
    inner = g.node("Conv", x, weight, g.random(c), pads=[1, 1, 1, 1])
    total = g.node("Add", inner, x) if g.chance(0.5) else g.node("Add", x, g.node("Relu", inner))
    return g.node("Relu", total) if g.chance(0.5) else total


def squeeze_excite(g: Writer) -> str:
    x = g.value()
    c = g.live[x][1]
    inner = g.pick((1, 2, 4, 12, 16))
    squeezed = g.node("GlobalAveragePool", x) if g.chance(0.5) else g.node("ReduceMean", x, g.constant([2, 3], "int64"))
    hidden = g.node("Relu", g.node("Conv", squeezed, g.random(inner, c, 1, 1), g.random(inner)))
    gate = g.node(g.pick(("Sigmoid", "HardSigmoid")), g.node("Conv", hidden, g.random(c, inner, 1, 1), g.random(c)))
    return g.node("Mul", *g.pick(((x, gate), (gate, x))))


def spatial_gate(g: Writer) -> str:
    x = g.value()
    mean = g.node("ReduceMean", x, g.constant([1], "int64"), keepdims=1)
    return g.node("Mul", x, g.node("Sigmoid", g.node("Conv", mean, g.random(1, 1, 3, 3), pads=[1, 1, 1, 1])))


def starts_inside(size: int, kernel: int, stride: int, before: int, after: int) -> bool:
    """Whether the last window of a size that is rounded up begins before the padding behind; ONNX's own tools disagree about others."""
    last = -(-(size + before + after - kernel) // stride) * stride
    return last < size + before


def pool(g: Writer) -> str | None:
    x = g.value()
    attributes = window(g, g.live[x], dilated=False)
    if attributes is None:
        return None
    kind = g.pick(("MaxPool", "AveragePool"))
    attributes |= {"count_include_pad": int(g.chance(0.5))} if kind == "AveragePool" else {}
    sizes = zip(g.live[x][2:], attributes["kernel_shape"], attributes["strides"], attributes["pads"], attributes["pads"][2:], strict=False)
    if g.chance(0.4) and all(starts_inside(*size) for size in sizes):
        attributes["ceil_mode"] = 1
    return g.node(kind, x, **attributes)


def reduced(g: Writer) -> str:
    x = g.value()
    kind = g.pick(("ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin", "ReduceL2", "GlobalMaxPool", "GlobalAveragePool"))
    if kind.startswith("Global"):
        return g.node(kind, x)
    axes = g.pick(([2, 3], [-2, -1], [-1, -2], [1], [3], [-1], [-3], [1, 2, 3]))
    if kind == "ReduceSum":
        return g.node("ReduceMean", g.node("Exp", g.node("Neg", g.node("Abs", x))), g.constant(axes, "int64"), keepdims=1)
    return g.node(kind, x, g.constant(axes, "int64"), keepdims=1)


def concat(g: Writer) -> str | None:
    x = g.value()
    axis = g.pick((1, 1, 1, -3, 2, 3)) % 4
    shape = g.live[x]
    others = [name for name, other in g.live.items() if all(a == b for k, (a, b) in enumerate(zip(shape, other, strict=True)) if k != axis)]
    parts = [x] + [g.pick(others) for _ in range(g.pick((1, 1, 2, 3)))]
    return g.node("Concat", *parts, axis=axis)


def softmax(g: Writer) -> str:
    return g.node("Softmax", g.value(), axis=g.pick((1, 1, -1, 2)))


def shuffle(g: Writer) -> str | None:
    x = g.value()
    n, c, h, w = g.live[x]
    groups = g.pick([d for d in (2, 3, 4, 8) if c % d == 0] or [1])
    split = g.node("Reshape", x, g.constant([n, groups, c // groups, h, w], "int64"))
    return g.node("Reshape", g.node("Transpose", split, perm=[0, 2, 1, 3, 4]), g.constant([n, c, h, w], "int64"))


def transposed(g: Writer) -> str:
    return g.node("Transpose", g.value(), perm=g.pick(([0, 1, 3, 2], [0, 2, 1, 3], [0, 2, 3, 1], [0, 3, 1, 2])))


def sliced(g: Writer) -> str | None:
    x = g.value()
    axis = g.pick((1, 1, 2, 3))
    size = g.live[x][axis]
    if size < 2:
        return None
    if size % 2 == 0 and g.chance(0.5):
        return g.node("Split", x, outputs=2, axis=axis, num_outputs=2)
    start = int(g.rng.integers(0, size - 1))
    stop = int(g.rng.integers(start + 1, size + 1))
    bounds = [g.constant([value], "int64") for value in (start, stop, axis, g.pick((1, 1, 2)))]
    return g.node("Slice", x, *bounds)


def padded(g: Writer) -> str:
    before, after = ([0, 0, *(int(v) for v in g.rng.integers(0, 3, 2))] for _ in range(2))
    x = g.value()
    if g.chance(0.3):
        after[1] = 3
    mode = g.pick(("constant", "constant", "edge"))
    return g.node(
        "Pad", x, g.constant([*before, *after], "int64"), *([g.constant(g.pick((0.0, 1.0)))] if mode == "constant" else []), mode=mode
    )


def resized(g: Writer) -> str:
    return g.node(
        "Resize",
        g.value(),
        "",
        g.constant([1, 1, 2, 2]),
        mode=g.pick(("nearest", "linear")),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def chosen(g: Writer) -> str:
    """Continuous where the condition changes, so that a rounding cannot show."""
    x = g.value()
    return g.node("Where", g.node("Greater", x, g.constant(0.0)), x, g.node("Mul", x, g.constant(0.3)))


def normalised(g: Writer) -> str:
    x = g.value()
    c = g.live[x][1]
    if g.live[x][2] * g.live[x][3] < 4:
        return g.node("Relu", x)
    return g.node("InstanceNormalization", x, g.random(c), g.random(c), epsilon=0.1)


LAYERS: list[tuple[float, Callable[[Writer], str | None]]] = [
    (8, conv), (4, activation), (1.5, residual), (1, squeeze_excite), (0.5, spatial_gate), (2, pool), (1.5, concat), (2, with_constant),
    (2, with_tensor), (1, clipped), (0.7, swish), (1.2, not_finite_at_zero), (0.5, prelu), (1, reduced), (0.5, softmax), (0.5, shuffle),
    (0.4, transposed), (0.8, sliced), (0.6, padded), (0.3, resized), (0.5, chosen), (0.3, normalised), (0.3, conv_transpose),
]  # fmt: skip


def random_network(seed: int) -> onnx.ModelProto:
    """Up to a dozen layers, one to three outputs."""
    g = Writer(seed)
    weights = np.array([weight for weight, _layer in LAYERS])
    for _ in range(int(g.rng.integers(3, 13))):
        layer = LAYERS[int(g.rng.choice(len(LAYERS), p=weights / weights.sum()))][1]
        before = len(g.nodes)
        name = layer(g)
        if name is None:
            del g.nodes[before:]
        else:
            g.keep(name)
    if g.chance(0.4):
        classify(g)
    names = [node.output[0] for node in g.nodes]
    live = [name for name in g.live if name in names]
    if not live:
        g.keep(g.node("Relu", "x"))
        live = [g.nodes[-1].output[0]]
    outputs = {g.nodes[-1].output[0]} | {g.pick(live) for _ in range(g.pick((0, 0, 1, 2)))}
    return with_shapes(g.model(sorted(outputs)))


def classify(g: Writer) -> None:
    x = list(g.live)[-1]
    _n, c, h, w = g.live[x]
    if g.chance(0.5):
        x, h, w = g.node("GlobalAveragePool", x), 1, 1
    rows = g.node("Flatten", x)
    weight = g.random(c * h * w, g.pick((1, 5, 10, 16, 33)), low=-((c * h * w) ** -0.5), high=(c * h * w) ** -0.5)
    scores = g.node("MatMul", rows, weight) if g.chance(0.5) else g.node("Gemm", rows, weight)
    if g.chance(0.5):
        g.node("Softmax", scores, axis=-1)


def with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    known = shapes(model)
    for output in model.graph.output:
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, known[output.name]))
    return model
