"""add, subtract and multiply of two quantised tensors, with NumPy's broadcasting.

add:  both on the scale 2 * max(scale1, scale2), with 20 more bits of fraction (15 for int16), then requantised; of int8 mostly shorter
mul:  requantize((a - zero_a) * (b - zero_b))
"""

from collections.abc import Callable

import numpy as np
from tvm import relax, te, tirx

from relay_passes.integers import fixed_point
from relay_passes.integers.fixed_point import clamp, one_multiplier
from relay_passes.integers.intrinsics import requantize
from relay_passes.integers.island import Island
from relay_passes.integers.linear_sum import INT8, Plane, same_plane
from relay_passes.integers.programs import placeholder

MORE_BITS = {"int8": 20, "int16": 15}

Element = Callable[[tirx.Expr, tirx.Expr], tirx.Expr]


def broadcast(tensor: te.Tensor, index: tuple[tirx.Expr, ...]) -> tirx.Expr:
    """The element of `tensor` that meets `index` of the result."""
    last = index[len(index) - len(tensor.shape) :]
    return tensor[tuple(0 if int(extent) == 1 else at for extent, at in zip(tensor.shape, last, strict=True))]


def binary(island: Island, name: str, element: Element) -> relax.Expr:
    """The program that applies `element` to every pair, both int32 with their zero points taken off."""
    a, b = (placeholder(item.value, letter) for item, letter in zip(island.inputs, "ab", strict=True))
    zeros = [item.one_zero for item in island.inputs]

    def result(*index: tirx.Var) -> tirx.Expr:
        left, right = (broadcast(tensor, index).astype("int32") - zero for tensor, zero in zip((a, b), zeros, strict=True))
        return clamp(element(left, right) + island.output.one_zero, island.low, island.high).astype(island.output.dtype)

    arguments = [item.value for item in island.inputs]
    return island.programs.call(name, [a, b, te.compute(island.shape, result, name=name)], arguments)


def is_known(island: Island) -> bool:
    kinds = {item.dtype for item in island.inputs} | {island.output.dtype}
    return island.uniform and len(kinds) == 1 and kinds <= set(MORE_BITS)


def add(island: Island) -> relax.Expr | None:
    return sum_of_scaled(island, "add", lambda a, b: a + b)


def subtract(island: Island) -> relax.Expr | None:
    return sum_of_scaled(island, "subtract", lambda a, b: a - b)


def sum_of_scaled(island: Island, name: str, combine: Element) -> relax.Expr | None:
    if not is_known(island):
        return None
    bits = MORE_BITS[island.output.dtype]
    scales = [item.one_scale for item in island.inputs]
    twice = 2 * max(scales)
    factors = scales[0] / twice, scales[1] / twice, twice / ((1 << bits) * island.output.one_scale)
    (first, first_shift), (second, second_shift), (last, last_shift) = (one_multiplier(item) for item in factors)
    if last_shift > 0:
        return None  # TFLite refuses: the result would be finer than the operands allow

    def element(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
        left = requantize(a * (1 << bits), first, first_shift)
        right = requantize(b * (1 << bits), second, second_shift)
        return requantize(combine(left, right), last, last_shift)

    plane = None
    if island.output.dtype == "int8":
        left, right = (
            fixed_point.requantize((INT8 - item.one_zero) << bits, factor, shift)
            for item, factor, shift in zip(island.inputs, (first, second), (first_shift, second_shift), strict=True)
        )
        exact = fixed_point.requantize(combine(left[:, None], right), last, last_shift) + island.output.one_zero
        unit = float(last) * 2.0 ** (last_shift - 31 + bits)
        slopes = float(first) * 2.0 ** (first_shift - 31) * unit, combine(0, 1) * float(second) * 2.0 ** (second_shift - 31) * unit
        plane = same_plane(np.clip(exact, island.low, island.high).astype("int64"), slopes, island.low, island.high)
    return binary(island, name, element) if plane is None else on_plane(island, name, plane)


def on_plane(island: Island, name: str, plane: Plane) -> relax.Expr:
    """The program that computes the same with two multiplications."""
    a, b = (placeholder(item.value, letter) for item, letter in zip(island.inputs, "ab", strict=True))

    def result(*index: tirx.Var) -> tirx.Expr:
        left, right = (broadcast(tensor, index).astype("int32") for tensor in (a, b))
        return clamp((left * plane.m + right * plane.n + plane.k) >> plane.shift, island.low, island.high).astype("int8")

    arguments = [item.value for item in island.inputs]
    return island.programs.call(name, [a, b, te.compute(island.shape, result, name=name)], arguments)


def multiply(island: Island) -> relax.Expr | None:
    """Two of int16 may give int8, as the last step of an LSTM layer does."""
    narrowing = {item.dtype for item in island.inputs} == {"int16"} and island.output.dtype == "int8"
    if not is_known(island) and not (narrowing and island.uniform):
        return None
    first, second = (np.float64(item.one_scale) for item in island.inputs)
    factor = one_multiplier(float(first * second / np.float64(island.output.one_scale)))
    return binary(island, "multiply", lambda a, b: requantize(a * b, *factor))


LOWERINGS = {"relax.add": add, "relax.subtract": subtract, "relax.multiply": multiply}
