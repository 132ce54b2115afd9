"""Compute what depends on constants alone.

    y = add(permute_dims(c, [1, 0]), d)   ->   y = const

TVM's own pass builds and loads a function for each distinct expression, which took seven seconds on MobileNetV2; numpy has nearly every
operator already and the same float32 arithmetic. What has no entry in the table goes on to `relax.transform.FoldConstant`.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import erf
from tvm import relax

from relay_passes.rewrite import Graph, array, blank, constant, dtype, is_tensor, op_name, rewrite_pass, rewrites, shape

MAX_GROWTH = 1 << 16  # bytes: a broadcast of more than this is cheaper to keep than to ship
ROWS = 256  # of a matrix that is transposed at a time

Arrays = list[np.ndarray]
Compute = Callable[[relax.Call, Arrays], np.ndarray]


def plain(function: Callable[..., np.ndarray]) -> Compute:
    """An operator whose arguments are all tensors and which has no attributes."""
    return lambda _call, values: function(*values)


def reduction(function: Callable[..., np.ndarray]) -> Compute:
    def compute(call: relax.Call, values: Arrays) -> np.ndarray:
        axes = None if call.attrs.axis is None else tuple(int(axis) for axis in call.attrs.axis)
        return function(values[0], axis=axes, keepdims=bool(call.attrs.keepdims))

    return compute


def to_shape(call: relax.Call, values: Arrays) -> np.ndarray:
    return values[0].reshape(shape(call))


def permute(call: relax.Call, values: Arrays) -> np.ndarray:
    (value,) = values
    if value.ndim != 2:
        return value.transpose(None if call.attrs.axes is None else [int(axis) for axis in call.attrs.axes])
    if shape(call) == value.shape and call.attrs.axes is not None and int(call.attrs.axes[0]) == 0:
        return value
    result = blank(value.shape[::-1], value.dtype)
    for row in range(0, value.shape[0], ROWS):  # strips stay in the cache: five times as fast on the weights of VGG's first dense layer
        result[:, row : row + ROWS] = value[row : row + ROWS].T
    return result


def join(call: relax.Call, values: Arrays) -> np.ndarray:
    axis = call.attrs.axis
    return np.concatenate([value.reshape(-1) for value in values]) if axis is None else np.concatenate(values, int(axis))


def cut(call: relax.Call, values: Arrays) -> np.ndarray:
    """`strided_slice(x, axes, begin, end, strides)`: negative indices count from the end, ends beyond it stop there, as in Python."""
    axes, begin, end, *rest = ([int(item.value) for item in argument.fields] for argument in call.args[1:])
    strides = rest[0] if rest else [1] * len(axes)
    slices = [slice(None)] * values[0].ndim
    for axis, first, last, step in zip(axes, begin, end, strides, strict=True):
        slices[axis] = slice(first, last, step)
    return values[0][tuple(slices)]


def take(call: relax.Call, values: Arrays) -> np.ndarray:
    axis = None if call.attrs.axis is None else int(call.attrs.axis)
    result: np.ndarray = values[0].take(values[1], axis, mode="clip" if call.attrs.mode == "clip" else "wrap")
    return result


def divide(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Integers towards zero, as in C."""
    quotient: np.ndarray = left / right if left.dtype.kind == "f" else np.sign(left) * np.sign(right) * (np.abs(left) // np.abs(right))
    return quotient


def sigmoid(value: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # exp of what is far below zero is infinite, and the result zero
        return (1 / (1 + np.exp(-value))).astype(value.dtype)


def clip(call: relax.Call, values: Arrays) -> np.ndarray:
    return np.clip(values[0], values[0].dtype.type(call.args[1].value), values[0].dtype.type(call.args[2].value))


TABLE: dict[str, Compute] = {
    "relax.reshape": to_shape,
    "relax.squeeze": to_shape,
    "relax.expand_dims": to_shape,
    "relax.flatten": to_shape,
    "relax.permute_dims": permute,
    "relax.broadcast_to": lambda call, values: np.broadcast_to(values[0], shape(call)),
    "relax.astype": lambda call, values: values[0].astype(dtype(call)),
    "relax.concat": join,
    "relax.stack": lambda call, values: np.stack(values, int(call.attrs.axis or 0)),
    "relax.strided_slice": cut,
    "relax.take": take,
    "relax.clip": clip,
    "relax.add": plain(np.add),
    "relax.subtract": plain(np.subtract),
    "relax.multiply": plain(np.multiply),
    "relax.divide": lambda _call, values: divide(*values),
    "relax.maximum": plain(np.maximum),
    "relax.minimum": plain(np.minimum),
    "relax.negative": plain(np.negative),
    "relax.abs": plain(np.abs),
    "relax.sqrt": plain(np.sqrt),
    "relax.rsqrt": lambda _call, values: (1 / np.sqrt(values[0])).astype(values[0].dtype),
    "relax.exp": plain(np.exp),
    "relax.log": plain(np.log),
    "relax.floor": plain(np.floor),
    "relax.ceil": plain(np.ceil),
    "relax.round": plain(np.rint),
    "relax.sin": plain(np.sin),
    "relax.cos": plain(np.cos),
    "relax.square": plain(np.square),
    "relax.sign": plain(np.sign),
    "relax.tanh": plain(np.tanh),
    "relax.erf": lambda _call, values: erf(values[0]).astype(values[0].dtype),
    "relax.sigmoid": plain(sigmoid),
    "relax.nn.relu": lambda _call, values: np.maximum(values[0], values[0].dtype.type(0)),
    "relax.nn.silu": lambda _call, values: values[0] * sigmoid(values[0]),
    "relax.nn.leakyrelu": lambda call, values: np.where(values[0] >= 0, values[0], values[0] * np.float32(call.attrs.alpha)),
    "relax.nn.gelu": lambda _call, values: (values[0] * (1 + erf(values[0] / np.sqrt(2))) / 2).astype(values[0].dtype),
    "relax.power": plain(np.power),
    "relax.isnan": plain(np.isnan),
    "relax.where": plain(np.where),
    "relax.less": plain(np.less),
    "relax.less_equal": plain(np.less_equal),
    "relax.greater": plain(np.greater),
    "relax.greater_equal": plain(np.greater_equal),
    "relax.equal": plain(np.equal),
    "relax.not_equal": plain(np.not_equal),
    "relax.logical_and": plain(np.logical_and),
    "relax.logical_or": plain(np.logical_or),
    "relax.logical_not": plain(np.logical_not),
    "relax.sum": reduction(np.sum),
    "relax.mean": reduction(np.mean),
    "relax.max": reduction(np.max),
    "relax.min": reduction(np.min),
    "relax.prod": reduction(np.prod),
    "relax.full": lambda call, values: np.full(shape(call), values[0], dtype(call)),
    "relax.zeros": lambda call, _values: np.zeros(shape(call), dtype(call)),
    "relax.ones": lambda call, _values: np.ones(shape(call), dtype(call)),
}


def operands(call: relax.Call) -> Arrays | None:
    """The tensors that a call reads, None where one is no constant."""
    values: Arrays = []
    for argument in call.args:
        for field in argument.fields if isinstance(argument, relax.Tuple) else [argument]:
            if not isinstance(field.ty, relax.TensorType):
                continue
            value = array(field)
            if value is None:
                return None
            values.append(value)
    return values


@rewrites(*TABLE)
def compute(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    return fold_call(call)


def fold_call(call: relax.Call) -> relax.Expr | None:
    """The value of a call whose arguments are constants, None where it has to stay."""
    if op_name(call) not in TABLE or not is_tensor(call):
        return None
    values = operands(call)
    if values is None:
        return None
    size = int(np.prod(shape(call))) * np.dtype(dtype(call)).itemsize
    if size > max(MAX_GROWTH, *(value.nbytes for value in values)) if values else size > MAX_GROWTH:
        return None
    with np.errstate(all="ignore"):  # isnan(0 / 0) is a fair question
        result = TABLE[op_name(call)](call, values)
    assert result.shape == shape(call), f"{call} computed {result.shape}"
    return constant(result.astype(dtype(call), copy=False))


@rewrites("relax.dequantize")
def stored_integers(call: relax.Call, _graph: Graph) -> relax.Expr | None:
    """Weights that are stored as integers: (q - zero point) * scale, where scale and zero point may differ along one axis."""
    values = operands(call)
    if values is None or not is_tensor(call) or dtype(call) != "float32":
        return None
    extents = [1] * len(shape(call))
    if extents:
        extents[int(call.attrs.axis)] = -1
    data, scale, zero_point = values
    shifted = data.astype("int64") - zero_point.astype("int64").reshape(extents)
    return constant(shifted.astype("float32") * scale.reshape(extents))


@rewrites("relax.shape_to_tensor")
def known_shape(call: relax.Call, graph: Graph) -> relax.Expr | None:
    source = graph.source(call.args[0])
    known = source.args[0] if op_name(source) == "relax.shape_of" else None
    return constant(np.array(shape(known), "int64")) if known is not None and is_tensor(known) else None


fold_constants = rewrite_pass("fold_constants", [compute, stored_integers, known_shape])
