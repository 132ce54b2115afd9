"""Integer layers as the graph passes write them, and what they compute, in NumPy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import te, tirx

ZERO = 7  # of the activations


@dataclass(frozen=True)
class Layer:
    """One convolution of bytes: image [n, h, w, c], c a multiple of four; filters of r x s."""

    c: int
    f: int
    h: int = 5
    w: int = 7
    n: int = 1
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    dilation: int = 1
    pad: int = 0
    depthwise: bool = False
    given: int = 0  # channels of the image, where the border adds some; else c

    @property
    def image(self) -> tuple[int, int, int, int]:
        return self.n, self.h, self.w, self.given or self.c

    @property
    def out(self) -> tuple[int, int, int, int]:
        h, w = (
            (size + 2 * self.pad - (k - 1) * self.dilation - 1) // self.stride + 1
            for size, k in zip((self.h, self.w), self.kernel, strict=True)
        )
        return self.n, h, w, self.f

    @property
    def weights(self) -> tuple[int, ...]:
        return (*self.kernel, self.c) if self.depthwise else (-(-self.f // 16), *self.kernel, self.c // 4, 16, 4)


@dataclass(frozen=True)
class Result:
    """What follows the sums: bytes of one kind around `zero`, or float32; `form` is how the clip and the rounding are written."""

    dtype: str = "uint8"
    zero: int = 5
    residual: bool = False
    form: str = "round"


BOUNDS = {"uint8": (0, 255), "int8": (-128, 127)}


def program(layer: Layer, result: Result) -> tirx.PrimFunc:
    x = te.placeholder(layer.image, "uint8", name="x")
    w = te.placeholder(layer.weights, "int8", name="w")
    vectors = [te.placeholder((layer.f,), "int32", name="bias"), te.placeholder((layer.f,), "float32", name="scale")]
    (_, out_h, out_w, _), p = layer.out, layer.pad
    image = x
    if p or layer.given:
        height, width = layer.h + 2 * p, layer.w + 2 * p

        def border(b: tirx.Var, i: tirx.Var, j: tirx.Var, c: tirx.Var) -> tirx.Expr:
            inside = te.all(i >= p, i < p + layer.h, j >= p, j < p + layer.w, *([c < layer.given] if layer.given else []))
            return te.if_then_else(inside, x[b, i - p, j - p, c], tirx.const(ZERO, "uint8"))

        image = te.compute((layer.n, height, width, layer.c), border, name="pad")
    r, s = (te.reduce_axis((0, extent), name) for extent, name in zip(layer.kernel, "rs", strict=True))
    co, ci = te.reduce_axis((0, layer.c // 4), "co"), te.reduce_axis((0, 4), "ci")

    def pixel(b: tirx.Var, i: tirx.Var, j: tirx.Var, c: tirx.Expr) -> tirx.Expr:
        return image[b, i * layer.stride + r * layer.dilation, j * layer.stride + s * layer.dilation, c].astype("int32")

    if layer.depthwise:
        acc = te.compute(
            layer.out,
            lambda b, i, j, c: te.sum(pixel(b, i, j, c) * w[r, s, c].astype("int32"), axis=[r, s]),
            name="depthwise_conv2d_nhwc",
        )
    else:
        acc = te.compute(
            (layer.n, out_h, out_w, layer.weights[0], 16),
            lambda b, i, j, fo, fi: te.sum(pixel(b, i, j, co * 4 + ci) * w[fo, r, s, co, fi, ci].astype("int32"), axis=[r, s, co, ci]),
            name="conv2d_dot",
        )

    def at(*index: tirx.Var) -> tirx.Expr:
        *where, f = index
        return acc[index] if layer.depthwise else acc[(*where, f // 16, f % 16)]

    real = te.compute(layer.out, lambda *i: (at(*i) + vectors[0][i[-1]]).astype("float32") * vectors[1][i[-1]], name="rescale")
    inputs = [x, w, *vectors]
    if result.residual:
        other = te.placeholder(layer.out, "uint8", name="other")
        inputs.append(other)
        before = real
        real = te.compute(
            layer.out, lambda *i: before[i] + (other[i].astype("int32") - 3).astype("float32") * tirx.const(0.25, "float32"), name="sum"
        )
    end = real if result.dtype == "float32" else te.compute(layer.out, lambda *i: FORMS[result.form](real[i], result), name="quantize")
    return te.create_prim_func([*inputs, end], index_dtype_override="int64")


def rounded(value: tirx.Expr, result: Result) -> tirx.Expr:
    low, high = (tirx.const(float(bound), "float32") for bound in BOUNDS[result.dtype])
    return te.max(te.min(te.round(value) + tirx.const(float(result.zero), "float32"), high), low).astype(result.dtype)


def magic(value: tirx.Expr, result: Result) -> tirx.Expr:
    low, high = (tirx.const(float(bound - result.zero), "float32") for bound in BOUNDS[result.dtype])
    bits = tirx.reinterpret("int32", te.min(te.max(value, low), high) + tirx.const(1.5 * 2**23, "float32"))
    return (bits + tirx.const(result.zero, "int32")).astype(result.dtype)


def narrower(value: tirx.Expr, result: Result) -> tirx.Expr:
    """Bounds that are not those of the type, which no saturating instruction knows."""
    return te.max(te.min(te.round(value), tirx.const(60.0, "float32")), tirx.const(float(result.zero), "float32")).astype(result.dtype)


FORMS: dict[str, Callable[[tirx.Expr, Result], tirx.Expr]] = {"round": rounded, "magic": magic, "narrower": narrower}


def inputs(layer: Layer, result: Result, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = [
        rng.integers(0, 256, layer.image, dtype=np.uint8),
        rng.integers(-128, 128, layer.weights, dtype=np.int8),
        rng.integers(-2000, 2000, layer.f).astype(np.int32),
        rng.uniform(0.2, 1.0, layer.f).astype(np.float32)
        * np.float32(1e-2 / np.sqrt(np.prod(layer.kernel) * (1 if layer.depthwise else layer.c))),
    ]
    return [*arrays, rng.integers(0, 256, layer.out, dtype=np.uint8)] if result.residual else arrays


def reference(layer: Layer, result: Result, arrays: Sequence[np.ndarray]) -> np.ndarray:
    x, w, bias, scale = (arrays[index] for index in range(4))
    p = layer.pad
    image = np.pad(x, [(0, 0), (p, p), (p, p), (0, layer.c - layer.image[3])], constant_values=ZERO).astype(np.int64)
    _, height, width, _ = layer.out
    total = np.zeros(layer.out, np.int64)
    for r, s in np.ndindex(*layer.kernel):
        row, column = r * layer.dilation, s * layer.dilation
        stop_h, stop_w = row + (height - 1) * layer.stride + 1, column + (width - 1) * layer.stride + 1
        pixels = image[:, row : stop_h : layer.stride, column : stop_w : layer.stride]
        if layer.depthwise:
            total += pixels * w[r, s].astype(np.int64)
        else:
            filters = w[:, r, s].astype(np.int64).transpose(0, 2, 1, 3).reshape(-1, layer.c)[: layer.f]
            total += pixels @ filters.T
    real = (total + bias).astype(np.float32) * scale
    if result.residual:
        real = real + (arrays[4].astype(np.float32) - np.float32(3)) * np.float32(0.25)
    if result.dtype == "float32":
        return real
    if result.form == "narrower":
        return np.clip(np.rint(real), result.zero, 60).astype(result.dtype)
    return np.clip(np.rint(real) + result.zero, *BOUNDS[result.dtype]).astype(result.dtype)
