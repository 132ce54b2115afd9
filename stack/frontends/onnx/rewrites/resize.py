"""Resize as weighted gathers, one axis at a time, with positions and weights computed here.

    Resize(x, linear, axis 2: 4 -> 6)   ->   Gather(x, i0, 2) * w0 + Gather(x, i1, 2) * w1

Covers every mode, coordinate transformation, region of interest and antialiasing alike. What TVM's own operator computes rightly, whole
scales without a region of interest, is left to it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stack.frontends.onnx.graph import Graph, Node
from stack.frontends.onnx.rewrites.body import Body, with_attributes

Floats = np.ndarray


@dataclass(frozen=True)
class Axis:
    """One axis that changes: from `size` to `out` elements, `scale` apart; `start` and `end` bound the region of interest, 0 to 1."""

    index: int
    size: int
    out: int
    scale: np.float32
    start: float
    end: float


def resize(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    if node.opset < 11:
        return from_resize_10(node, graph, prefix)
    shape, axes = graph.shape(node.proto.input[0]), changed_axes(node, graph)
    if shape is None or axes is None:
        return None
    mode = node.attribute("mode", "nearest")
    if not axes:
        body = Body(prefix)
        body("Identity", node.proto.input[0], output=node.proto.output[0])
        return body.nodes
    if fits_importer(node, shape, axes, mode):
        return plain_form(node, axes, shape, prefix)
    body, value = Body(prefix), node.proto.input[0]
    dtype = graph.dtype(value) or np.dtype(np.float32)
    real = dtype if dtype.kind == "f" else np.dtype(np.float32)
    outside: list[tuple[Axis, np.ndarray]] = []
    if mode != "nearest" and dtype != real:
        value = body("Cast", value, to=1)
    for axis in axes:
        at = coordinates(axis, node.attribute("coordinate_transformation_mode", "half_pixel"))
        if mode == "nearest":
            value = gather_nearest(body, value, axis, at, node)
        else:
            value = gather_weighted(body, value, axis, at, node, real, len(shape))
        if node.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
            outside.append((axis, (at < 0) | (at > axis.size - 1)))
    if mode != "nearest" and dtype != real:
        value = body("CastLike", body("Round", value), node.proto.input[0])
    if any(mask.any() for _, mask in outside):
        beyond = np.zeros((1,) * len(shape), bool)
        for axis, mask in outside:
            beyond = beyond | mask.reshape([-1 if i == axis.index else 1 for i in range(len(shape))])
        fill = body.constant(node.attribute("extrapolation_value", 0.0), dtype)
        value = body("Where", body.constant(beyond, bool), fill, value)
    body("Identity", value, output=node.proto.output[0])
    return body.nodes


def from_resize_10(node: Node, graph: Graph, prefix: str) -> list[Node] | None:
    """Two inputs, and no choice of rounding: ONNX Runtime takes the floor where an axis grows and the ceiling where it shrinks."""
    if node.proto.input[1] not in graph.values:
        return None
    body, scales, mode = Body(prefix), graph.values[node.proto.input[1]], node.attribute("mode", "nearest")
    form = {"coordinate_transformation_mode": "asymmetric", "mode": mode}
    steps = [("floor", scales)] if mode != "nearest" else [("floor", np.maximum(scales, 1)), ("ceil", np.minimum(scales, 1))]
    value = node.proto.input[0]
    for rounding, factors in steps:
        value = body("Resize", value, "", body.constant(factors, np.float32), nearest_mode=rounding, **form)
    body("Identity", value, output=node.proto.output[0])
    return body.nodes


def changed_axes(node: Node, graph: Graph) -> list[Axis] | None:
    """The axes with their new sizes; None where scales or sizes are not known."""
    shape = graph.shape(node.proto.input[0])
    roi, scales, sizes = (node.input(index) for index in (1, 2, 3))
    if shape is None:
        return None
    which = [axis % len(shape) for axis in node.attribute("axes", range(len(shape)))]
    transform = node.attribute("coordinate_transformation_mode", "half_pixel")
    if transform == "tf_crop_and_resize" and roi not in graph.values:
        return None
    region = graph.values[roi].reshape(2, -1) if transform == "tf_crop_and_resize" else np.array([[0.0], [1.0]]).repeat(len(which), 1)
    if scales in graph.values and graph.values[scales].size:
        factors = graph.values[scales].astype(np.float32)
        spans = region[1] - region[0]
        outs = [int(np.floor(np.float32(shape[axis]) * np.float32(span) * f)) for axis, f, span in zip(which, factors, spans, strict=True)]
    elif sizes in graph.values:
        outs = [int(size) for size in graph.values[sizes]]
        policy = node.attribute("keep_aspect_ratio_policy", "stretch")
        ratios = [np.float32(out) / np.float32(shape[axis]) for axis, out in zip(which, outs, strict=True)]
        if policy != "stretch":
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            ratios, outs = [ratio] * len(which), [int(np.floor(ratio * shape[axis] + np.float32(0.5))) for axis in which]
        factors = np.array(ratios, np.float32)
    else:
        return None
    axes = [Axis(i, shape[i], outs[n], factors[n], float(region[0][n]), float(region[1][n])) for n, i in enumerate(which)]
    return [axis for axis in axes if axis.size != axis.out or axis.scale != 1 or (axis.start, axis.end) != (0, 1)]


def fits_importer(node: Node, shape: tuple[int, ...], axes: list[Axis], mode: str) -> bool:
    """Whole up-scales of an image's height and width in the forms that exporters write for it."""
    transform = node.attribute("coordinate_transformation_mode", "half_pixel")
    rounding = node.attribute("nearest_mode", "round_prefer_floor")
    known = (mode == "nearest" and (transform, rounding) == ("asymmetric", "floor")) or (mode == "linear" and transform == "half_pixel")
    whole = all(axis.index >= 2 and axis.out % axis.size == 0 and axis.out == axis.size * axis.scale for axis in axes)
    return known and whole and len(shape) == 4 and bool(axes) and not node.attribute("antialias", 0)


def plain_form(node: Node, axes: list[Axis], shape: tuple[int, ...], prefix: str) -> list[Node] | None:
    """The form that the converter reads: four scales or four sizes, no region of interest."""
    if not node.has("axes") and not node.input(1) and not node.input(3):
        return None
    body, sizes = Body(prefix), list(shape)
    for axis in axes:
        sizes[axis.index] = axis.out
    plain = with_attributes(node, ("axes", "keep_aspect_ratio_policy"))
    scales = [out / size for out, size in zip(sizes, shape, strict=True)]
    plain.proto.input[:] = [node.proto.input[0], "", body.constant(scales, np.float32)]
    return [*body.nodes, Node(plain.proto, max(node.opset, 13))]


def coordinates(axis: Axis, transform: str) -> Floats:
    """Where each output lies on the input, in the single precision that ONNX Runtime uses."""
    one, half = np.float32(1), np.float32(0.5)
    x, out, size = np.arange(axis.out, dtype=np.float32), np.float32(axis.out), np.float32(axis.size)
    start, end = np.float32(axis.start), np.float32(axis.end)
    if transform == "asymmetric":
        return x / axis.scale
    if transform == "tf_half_pixel_for_nn":
        return (x + half) / axis.scale
    if transform == "align_corners":
        return x * (size - one) / (out - one) if axis.out > 1 else np.zeros_like(x)
    if transform == "tf_crop_and_resize":
        if axis.out > 1:
            return start * (size - one) + x * (end - start) * (size - one) / (out - one)
        return np.full_like(x, half * (start + end) * (size - one))
    if transform == "pytorch_half_pixel" and axis.out == 1:
        return np.zeros_like(x)
    offset = size / 2 * (one - out / (axis.scale * size)) if transform == "half_pixel_symmetric" else np.float32(0)
    return offset + (x + half) / axis.scale - half


ROUND: dict[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda at: np.ceil(at - np.float32(0.5)),
    "round_prefer_ceil": lambda at: np.floor(at + np.float32(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}


def gather_nearest(body: Body, value: str, axis: Axis, at: Floats, node: Node) -> str:
    rounding = node.attribute("nearest_mode", "round_prefer_floor")
    index = np.clip(ROUND[rounding](at), 0, axis.size - 1)
    return body("Gather", value, body.constant(index, np.int64), axis=axis.index)


def gather_weighted(body: Body, value: str, axis: Axis, at: Floats, node: Node, dtype: np.dtype, rank: int) -> str:
    """The sum over taps of a gather times its weights."""
    stretch = min(float(axis.scale), 1.0) if node.attribute("antialias", 0) else 1.0
    cubic = node.attribute("mode") == "cubic"
    reach = (2 if cubic else 1) / stretch
    low = int(np.floor(-reach)) + 1
    base = np.floor(at)
    taps = base[:, None] + np.arange(low, int(np.ceil(reach)) + 1)[None, :]
    distance = np.abs((taps - at[:, None]).astype(np.float64) * stretch)
    weights = cubic_weight(distance, node.attribute("cubic_coeff_a", -0.75)) if cubic else np.clip(1 - distance, 0, 1)
    if node.attribute("exclude_outside", 0):
        weights = np.where((taps < 0) | (taps > axis.size - 1), 0, weights)
    weights = weights / weights.sum(1, keepdims=True)
    index = np.clip(taps, 0, axis.size - 1)
    along = [-1 if i == axis.index else 1 for i in range(rank)]
    terms = []
    for tap in range(taps.shape[1]):
        if weights[:, tap].any():
            part = body("Gather", value, body.constant(index[:, tap], np.int64), axis=axis.index)
            terms.append(body("Mul", part, body.constant(weights[:, tap].reshape(along), dtype)))
    result = terms[0]
    for term in terms[1:]:
        result = body("Add", result, term)
    return result


def cubic_weight(distance: Floats, a: float) -> Floats:
    """Keys' kernel."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))
